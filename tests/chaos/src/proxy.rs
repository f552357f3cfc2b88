//! A TCP proxy that stands for the network between two processes: it can be cut, slowed down and held up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CHUNK: usize = 64 * 1024;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// Passes everything on.
    #[default]
    Clear,
    /// Takes this long for each chunk.
    Slow(Duration),
    /// Loses everything, both ways: connections stand and say nothing, new ones too.
    Dark,
    /// Loses what the server says; the server still hears the client.
    Deaf,
    /// Refuses connections.
    Closed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sky {
    weather: Weather,
    /// Connections made before this many cuts are reset.
    cuts: u64,
}

/// A proxy. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    sky: watch::Sender<Sky>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port and passes connections on to `upstream`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("a port for a proxy")?;
        let address = listener.local_addr().context("a port for a proxy")?;
        let (sky, seen) = watch::channel(Sky::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, upstream, seen));
        Ok(Self {
            address,
            sky,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather for all connections, those that stand and those to come.
    pub fn set(&self, weather: Weather) {
        self.sky.send_modify(|sky| sky.weather = weather);
    }

    /// Resets all connections that stand.
    pub fn cut(&self) {
        self.sky.send_modify(|sky| sky.cuts += 1);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, sky: watch::Receiver<Sky>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => _ = connections.spawn(serve(client, upstream, sky.clone())),
                // Out of descriptors, say: what is there goes on.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, mut sky: watch::Receiver<Sky>) {
    let Sky { weather, cuts } = *sky.borrow_and_update();
    let is_over = move |sky: &Sky| sky.cuts != cuts || sky.weather == Weather::Closed;
    if weather != Weather::Closed {
        let (mut to_server, mut to_client) = (sky.clone(), sky.clone());
        let pass = async {
            let dark = |sky: &Sky| sky.weather != Weather::Dark;
            drop(to_server.wait_for(dark).await.map(drop));
            let mut server = TcpStream::connect(upstream).await?;
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            {
                let (client_read, client_write) = client.split();
                let (server_read, server_write) = server.split();
                tokio::select! {
                    ended = pump(client_read, server_write, &mut to_server, &[Weather::Dark]) => ended?,
                    ended = pump(server_read, client_write, &mut to_client, &[Weather::Dark, Weather::Deaf]) => ended?,
                }
            }
            // One that ends half way is reset on the other side, too: no orderly end that nobody gave.
            server.set_zero_linger()
        };
        tokio::select! {
            _ = pass => {}
            _ = sky.wait_for(is_over) => {}
        }
    }
    // A reset, not an orderly end.
    drop(client.set_zero_linger());
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    sky: &mut watch::Receiver<Sky>,
    held_by: &[Weather],
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let weather = match sky.wait_for(|sky| !held_by.contains(&sky.weather)).await {
            Ok(sky) => sky.weather,
            Err(_) => return Ok(()),
        };
        if let Weather::Slow(delay) = weather {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that says everything twice, and a proxy before it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Proxy::start(address).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn connections_are_held_up_cut_and_refused() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        for weather in [Weather::Dark, Weather::Deaf] {
            proxy.set(weather);
            let held = tokio::time::timeout(MOMENT, ask(&mut stream)).await;
            held.expect_err("nothing gets through");
            proxy.set(Weather::Clear);
            let mut answer = [0; 4];
            let late = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
            late.unwrap().unwrap();
        }
        proxy.cut();
        let mut rest = [0; 1];
        let gone = tokio::time::timeout(PATIENCE, stream.read(&mut rest)).await;
        gone.unwrap().expect_err("it was reset");
        proxy.set(Weather::Closed);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        let gone = tokio::time::timeout(PATIENCE, ask(&mut refused)).await;
        gone.unwrap().expect_err("it was reset");
        proxy.set(Weather::Slow(MOMENT));
        let mut slow = TcpStream::connect(proxy.address()).await.unwrap();
        let asked = std::time::Instant::now();
        ask(&mut slow).await.unwrap();
        assert!(asked.elapsed() >= MOMENT * 2);
    }
}
