//! Clauses on checkpoints: the last one of each task.

use goflow_core::broker::MAX_CHECKPOINT_BYTES;

use super::*;

async fn identified(fixture: &impl Fixture) -> Connection {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    connection
}

/// The last checkpoint counts, byte for byte, whatever others save.
pub async fn last_checkpoint(fixture: &impl Fixture) {
    let connection = identified(fixture).await;
    let control = &connection.control;
    let (task, other) = (TaskId::new(), TaskId::new());
    let largest = Bytes::from(vec![0xff; MAX_CHECKPOINT_BYTES]);
    for checkpoint in [
        Bytes::from_static(b"one"),
        Bytes::new(),
        largest,
        Bytes::from_static(b"\0last\r\n"),
    ] {
        control
            .save_checkpoint(task, checkpoint.clone())
            .await
            .expect("save");
        control
            .save_checkpoint(other, Bytes::from_static(b"another"))
            .await
            .expect("save");
        assert_eq!(
            control.checkpoint(task).await.expect("read"),
            Some(checkpoint)
        );
    }
    let elsewhere = if fixture.outlives_connections() {
        fixture.connect().await
    } else {
        connection.clone()
    };
    let last = elsewhere.control.checkpoint(task).await.expect("read");
    assert_eq!(last.as_deref(), Some(&b"\0last\r\n"[..]));
}

/// A task that saved none has none.
pub async fn checkpoint_of_none(fixture: &impl Fixture) {
    let connection = identified(fixture).await;
    assert_eq!(
        connection
            .control
            .checkpoint(TaskId::new())
            .await
            .expect("read"),
        None
    );
    connection
        .control
        .save_checkpoint(TaskId::new(), "one".into())
        .await
        .expect("save");
    assert_eq!(
        connection
            .control
            .checkpoint(TaskId::new())
            .await
            .expect("read"),
        None
    );
}

/// A checkpoint that is too large is refused, and the one before is kept.
pub async fn large_checkpoint(fixture: &impl Fixture) {
    let connection = identified(fixture).await;
    let task = TaskId::new();
    connection
        .control
        .save_checkpoint(task, "kept".into())
        .await
        .expect("save");
    let large = Bytes::from(vec![0; MAX_CHECKPOINT_BYTES + 1]);
    let refused = connection.control.save_checkpoint(task, large).await;
    let is_expected = matches!(
        refused,
        Err(Error::TooLarge { bytes, limit }) if bytes == limit + 1 && limit == MAX_CHECKPOINT_BYTES
    );
    assert!(is_expected, "{refused:?}");
    let kept = connection.control.checkpoint(task).await.expect("read");
    assert_eq!(kept.as_deref(), Some(&b"kept"[..]));
}
