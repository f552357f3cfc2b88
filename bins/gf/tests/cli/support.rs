//! A gateway, and `gf` run against it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use gf_gateway::Options;
use gf_process::WorkerOptions;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Gateway {
    pub(crate) url: String,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// How a call of `gf` ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn gf(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gf"));
    command.args(args).kill_on_drop(true).stdin(Stdio::null());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GF_"))
    {
        command.env_remove(name);
    }
    command
}

pub(crate) async fn run(args: &[&str]) -> Ended {
    let output = tokio::time::timeout(Duration::from_secs(60), gf(args).output()).await;
    let output = output.expect("gf did not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl Gateway {
    /// With this many workers.
    pub(crate) async fn start(workers: u32) -> Self {
        let worker = WorkerOptions {
            num_workers: Some(workers),
            grace: Duration::from_secs(5),
            ..WorkerOptions::default()
        };
        let options = Options {
            listen: "127.0.0.1:0".to_owned(),
            worker,
            ..Options::default()
        };
        let shutdown = CancellationToken::new();
        let (ready, listens) = oneshot::channel::<SocketAddr>();
        let gateway = gf_gateway::run(
            options,
            |address| {
                let _ = ready.send(address);
            },
            shutdown.clone(),
        );
        let running = tokio::spawn(gateway);
        let url = format!(
            "http://{}",
            listens.await.expect("the gateway did not become ready")
        );
        Self {
            url,
            shutdown,
            running,
        }
    }

    pub(crate) async fn gf(&self, args: &[&str]) -> Ended {
        let server = ["--server", &self.url];
        run(&[&server[..], args].concat()).await
    }

    /// Pushes; the id.
    pub(crate) async fn push(&self, args: &[&str]) -> String {
        let ended = self.gf(&[&["push"][..], args].concat()).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        let id = ended.out.trim_end().to_owned();
        assert_eq!(
            (id.len(), ended.out.lines().count()),
            (36, 1),
            "only the id: {ended:?}"
        );
        id
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
