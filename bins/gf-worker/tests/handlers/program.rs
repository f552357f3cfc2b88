//! How the program takes its settings, and how it ends when they are wrong.

use std::process::Command;

use super::script;

/// Exit code, stdout and stderr.
fn gf_worker(args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gf-worker"))
        .args(args)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_memory_broker_is_refused_with_the_reason() {
    let (code, _, stderr) = gf_worker(&["--broker", "memory:"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("gf-worker: a memory broker has no workers outside its process"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn an_unknown_broker_is_refused_without_its_password() {
    let (code, _, stderr) = gf_worker(&["--broker", "redis://me:secret@localhost"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("no broker is known for redis://***@localhost")
            && !stderr.contains("secret"),
        "{stderr}"
    );
}

#[test]
fn a_broker_that_is_away_ends_the_start_with_one_line() {
    let (code, _, stderr) = gf_worker(&["--broker", "nats://me:secret@127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    let last = stderr.lines().last().unwrap();
    assert!(
        last.starts_with("gf-worker: connect to the broker nats://***@127.0.0.1:1: "),
        "{stderr}"
    );
    assert!(!stderr.contains("secret"), "{stderr}");
}

#[test]
fn wrong_handlers_are_named() {
    let dir = script("two words", "");
    let path = dir.path().to_str().unwrap();
    let (code, _, stderr) = gf_worker(&["--broker", "nats://127.0.0.1:1", "--handlers-path", path]);
    assert_eq!(code, Some(1));
    assert!(
        stderr
            .lines()
            .last()
            .unwrap()
            .contains("two words: an executable handler is named like"),
        "{stderr}"
    );
}

#[test]
fn the_file_of_settings_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    let config = path.to_str().unwrap();
    std::fs::write(&path, "broker = 'memory:'\nnum-workers = 3\n").unwrap();
    let (_, _, stderr) = gf_worker(&["--config", config]);
    assert!(stderr.contains("a memory broker"), "{stderr}");

    std::fs::write(&path, "brokre = 'memory:'\n").unwrap();
    let (code, _, stderr) = gf_worker(&["--config", config]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("gf-worker: ") && stderr.contains("`brokre`: unknown key"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn help_names_every_variable() {
    let (code, help, _) = gf_worker(&["--help"]);
    assert_eq!(code, Some(0));
    for name in [
        "BROKER",
        "HANDLERS_PATH",
        "NUM_WORKERS",
        "QUEUES",
        "LANE_ORDER",
        "LEASE",
        "GRACE",
        "LOG_FORMAT",
        "CONFIG",
    ] {
        assert!(
            help.contains(&format!("[env: GF_{name}]")),
            "{name} is missing:\n{help}"
        );
    }
    for part in ["GF_MAX_ATTEMPTS", "TRACEPARENT", "65 fails", "75 calls"] {
        assert!(help.contains(part), "{part} is missing:\n{help}");
    }
}
