//! What a handler gets and what it gives back.

use goflow::{Content, Error, HandlerError, Raw, State, Task};
use serde_json::json;

use crate::{Output, PATIENCE, started};

#[tokio::test]
async fn a_task_is_run_and_its_result_kept() {
    let flow = started().await;
    let id = flow
        .push(Task::json("doubler", &json!({"N": 10})).unwrap())
        .await
        .unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.json::<Output>().unwrap(), Output { doubled: 20 });
    assert_eq!(flow.get_result(id).await.unwrap().unwrap(), result);
    let record = flow.get(id).await.unwrap();
    assert_eq!((record.state, record.attempt), (State::Succeeded, 1));
    assert!(record.finished_at.is_some() && record.started_at.is_some() && record.worker.is_some());
    flow.close().await.unwrap();
}

#[tokio::test]
async fn raw_bytes_pass_untouched() {
    let flow = started().await;
    flow.register_handler("repeater", async |Raw(payload): Raw| {
        Ok::<_, HandlerError>(Raw(payload))
    })
    .unwrap();
    for bytes in [&b""[..], &b"\xff\x00\xfe"[..], &[7; 900 * 1024][..]] {
        let content = Content::new(bytes.to_vec(), "application/x-odd");
        let id = flow
            .push(Task::new("repeater", content.clone()).unwrap())
            .await
            .unwrap();
        assert_eq!(flow.wait(id, PATIENCE).await.unwrap().result, Some(content));
    }
    flow.close().await.unwrap();
}

#[tokio::test]
async fn too_large_is_refused() {
    let flow = started().await;
    let task = Task::new("doubler", Content::binary(vec![0; 900 * 1024 + 1])).unwrap();
    assert!(matches!(
        flow.push(task).await,
        Err(Error::TooLarge {
            what: "payload",
            ..
        })
    ));
    flow.register_handler("large", async |(): ()| {
        Ok::<_, HandlerError>(Raw(Content::binary(vec![0; 1 << 20])))
    })
    .unwrap();
    let id = flow.push(Task::json("large", &()).unwrap()).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Failed);
    assert_eq!(
        result.error.unwrap(),
        "result of 1048576 bytes, 921600 is the most"
    );
    flow.close().await.unwrap();
}
