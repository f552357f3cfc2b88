//! The servers start, restart on the same port, and are gone afterwards.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use goflow_test_servers::{Nats, Postgres, eventually};

#[test]
fn nats_keeps_its_port_and_ends_with_its_value() {
    let mut nats = Nats::start().unwrap();
    let url = nats.url().to_owned();
    let address = url.strip_prefix("nats://").unwrap().to_owned();
    TcpStream::connect(&address).unwrap();

    let first = nats.pid();
    nats.restart().unwrap();
    assert_ne!(nats.pid(), first);
    TcpStream::connect(&address).unwrap();

    nats.kill().unwrap();
    TcpStream::connect(&address).unwrap_err();
    nats.start_again().unwrap();
    nats.wipe_and_restart().unwrap();
    assert_eq!(nats.url(), url);
    TcpStream::connect(&address).unwrap();

    let pid = nats.pid();
    drop(nats);
    assert!(!is_running(pid));
}

#[test]
fn postgres_keeps_its_port_and_data_and_ends_with_its_value() {
    let mut postgres = Postgres::start().unwrap();
    let one = postgres.create_database().unwrap();
    let other = postgres.create_database().unwrap();
    assert_ne!(one, other);
    postgres
        .execute(
            &one,
            "create table kept (n int); insert into kept values (7)",
        )
        .unwrap();
    postgres.execute(&other, "select n from kept").unwrap_err();
    assert_eq!(postgres.execute(&one, "show fsync").unwrap(), "on");

    postgres.restart().unwrap();
    assert_eq!(postgres.execute(&one, "select n from kept").unwrap(), "7");
    postgres.kill_immediate().unwrap();
    postgres.execute(&one, "select 1").unwrap_err();
    postgres.start_again().unwrap();
    assert_eq!(postgres.execute(&one, "select n from kept").unwrap(), "7");

    let pid = postgres.pid();
    drop(postgres);
    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_condition_is_waited_for_and_named_when_missed() {
    let mut tries = 0;
    eventually(Duration::from_secs(5), async || {
        tries += 1;
        tries == 3
    })
    .await
    .unwrap();

    let error = eventually(Duration::from_millis(20), async || {
        Err::<(), _>("two are missing")
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("two are missing"), "{error}");
    let error = eventually(Duration::from_millis(20), std::future::pending::<bool>)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("did not return"), "{error}");
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
