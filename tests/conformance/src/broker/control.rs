//! Clauses on what goes beside the messages.

use goflow_core::broker::{Identity, Tombstone};
use goflow_core::signal::{Command, Signal};

use super::*;

async fn another(fixture: &impl Fixture, connection: &Connection) -> Connection {
    if fixture.outlives_connections() {
        fixture.connect().await
    } else {
        connection.clone()
    }
}

/// Everyone who listens hears every signal, from whatever connection.
pub async fn signals(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    let other = another(fixture, &connection).await;
    let mut listeners = Vec::new();
    for connection in [&connection, &connection, &other] {
        listeners.push(connection.control.listen().await.expect("listen"));
    }
    let dropped = connection.control.listen().await.expect("listen");
    drop(dropped);
    let finished = Signal::Finished {
        route: route(true),
        ids: vec![TaskId::new(), TaskId::new()],
        engine: Uuid::new_v4(),
    };
    let goodbye = Signal::Goodbye(WorkerId(Uuid::new_v4()));
    connection
        .control
        .signal(finished.clone())
        .await
        .expect("signal");
    other.control.signal(goodbye.clone()).await.expect("signal");
    for listener in &mut listeners {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.push(
                timeout(PATIENCE, listener.next())
                    .await
                    .expect("in time")
                    .expect("connected"),
            );
        }
        assert!(
            heard.contains(&finished) && heard.contains(&goodbye),
            "{heard:?}"
        );
    }
}

/// Commands reach those who listen to commands, and nobody else does; nothing else reaches them.
pub async fn commands(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    let other = another(fixture, &connection).await;
    let mut workers = [
        connection
            .control
            .commands()
            .await
            .expect("listen to commands"),
        other.control.commands().await.expect("listen to commands"),
    ];
    let mut engine = other.control.listen().await.expect("listen");
    let worker = WorkerId(Uuid::new_v4());
    let sent = [Command::Quiet, Command::Resume, Command::Stop]
        .map(|command| Signal::Command { worker, command });
    let goodbye = Signal::Goodbye(worker);
    for signal in sent.iter().chain([&goodbye]) {
        connection
            .control
            .signal(signal.clone())
            .await
            .expect("signal");
    }
    for listener in &mut workers {
        for command in &sent {
            let heard = timeout(PATIENCE, listener.next()).await.expect("in time");
            assert_eq!(heard.as_ref(), Some(command));
        }
    }
    let heard = timeout(PATIENCE, engine.next()).await.expect("in time");
    assert_eq!(heard, Some(goodbye), "what came before it were commands");
    for listener in workers.iter_mut().chain([&mut engine]) {
        assert!(
            timeout(QUIET, listener.next()).await.is_err(),
            "there is no more to hear"
        );
    }
}

/// Tombstones noted before are known at once, later ones follow; the last one on a task counts.
pub async fn tombstones(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    let stone = |dispatch| Tombstone {
        task: TaskId::new(),
        dispatch,
    };
    let early: Vec<_> = (1..=100).map(stone).collect();
    connection.control.entomb(&early).await.expect("entomb");
    let replaced = Tombstone {
        dispatch: 1_000,
        ..early[0]
    };
    connection
        .control
        .entomb(&[replaced])
        .await
        .expect("entomb again");

    let other = another(fixture, &connection).await;
    let mut watch = timeout(PATIENCE, other.control.tombstones())
        .await
        .expect("in time")
        .expect("tombstones");
    let known: HashSet<_> = watch.known.drain(..).collect();
    let expected: HashSet<_> = early[1..].iter().copied().chain([replaced]).collect();
    assert_eq!(known, expected);

    let late: Vec<_> = (1..=3).map(stone).collect();
    connection.control.entomb(&late).await.expect("entomb");
    for _ in &late {
        let came = timeout(PATIENCE, watch.later.recv())
            .await
            .expect("in time")
            .expect("watching");
        assert!(late.contains(&came), "{came:?}");
    }
}

/// A broker is always the same, is bound to one store, and refuses another.
pub async fn identity(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    connection.control.ping().await.expect("ping");
    let identity = connection.control.identify().await.expect("identify");
    assert_eq!(identity.store, None);
    assert_eq!(identity.in_process, !fixture.outlives_connections());
    let store = StoreId(Uuid::new_v4());
    connection.control.bind(store).await.expect("bind");
    connection.control.bind(store).await.expect("bind again");
    let other = another(fixture, &connection).await;
    let foreign = other.control.bind(StoreId(Uuid::new_v4())).await;
    assert!(matches!(foreign, Err(Error::Refused { .. })), "{foreign:?}");
    let bound = Identity {
        store: Some(store),
        ..identity
    };
    assert_eq!(other.control.identify().await.expect("identify"), bound);
}

/// A closed connection says so, wakes who waits, and ends subscriptions.
pub async fn closing(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    let mut listener = connection.control.listen().await.expect("listen");
    let mut commands = connection
        .control
        .commands()
        .await
        .expect("listen to commands");
    let mut watch = connection.control.tombstones().await.expect("tombstones");
    let tasks = connection.tasks.clone();
    let waiting = tokio::spawn(async move { tasks.dequeue(LANE, 1, PATIENCE * 4).await });
    sleep(QUIET).await;
    connection.control.close().await;
    let woken = timeout(PATIENCE, waiting)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(matches!(woken, Err(Error::Closed)), "{woken:?}");
    assert_eq!(
        timeout(PATIENCE, listener.next()).await.expect("in time"),
        None
    );
    assert_eq!(
        timeout(PATIENCE, commands.next()).await.expect("in time"),
        None
    );
    assert_eq!(
        timeout(PATIENCE, watch.later.recv())
            .await
            .expect("in time"),
        None
    );
    let results = connection
        .tasks
        .submit(vec![message("late").into(), message("later").into()])
        .await;
    assert!(
        matches!(results[..], [Err(Error::Closed), Err(Error::Closed)]),
        "{results:?}"
    );
    let late = connection.tasks.dequeue(LANE, 1, QUIET).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    assert!(matches!(
        connection.control.ping().await,
        Err(Error::Closed)
    ));
    assert!(matches!(
        connection.control.listen().await,
        Err(Error::Closed)
    ));
    let again = timeout(Duration::from_secs(1), connection.control.close()).await;
    again.expect("closing again is at once");
}
