use std::sync::Arc;
use std::time::{Duration, Instant};

use goflow_core::content::{BINARY, JSON, TEXT};
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::{Content, Ctx, HandlerError};
use tokio::time::timeout;

use super::{all_gone, ctx, find, handlers, is_running, message, pids, run, script};

#[tokio::test]
async fn payload_in_result_out() {
    assert_eq!(
        run("cat", "{\"a\": 1}").await,
        Ok(Content::new("{\"a\": 1}", JSON))
    );
    assert_eq!(run("echo hello", "").await, Ok(Content::new("hello", TEXT)));
    assert_eq!(
        run("printf '\\377'", "").await,
        Ok(Content::new(&b"\xff"[..], BINARY))
    );
    assert_eq!(run(":", "").await, Ok(Content::new("null", JSON)));
    // Larger than a pipe, both ways.
    let payload = "x".repeat(MAX_CONTENT_BYTES);
    assert_eq!(run("cat", &payload).await, Ok(Content::new(payload, TEXT)));
}

#[tokio::test]
async fn a_payload_need_not_be_read() {
    let payload = "x".repeat(MAX_CONTENT_BYTES);
    assert_eq!(
        run("exec <&-; sleep 0.1; echo 1", &payload).await,
        Ok(Content::new("1", JSON))
    );
    assert_eq!(run("echo 1", &payload).await, Ok(Content::new("1", JSON)));
}

#[tokio::test]
async fn the_task_is_in_the_environment() {
    let dir = script(
        "handler",
        "echo \"$GF_TASK_ID $GF_ATTEMPT ${GF_DEADLINE-none} ${GF_BROKER-none}\"",
    );
    let handler = find(&handlers(dir.path()), "handler");
    let context = ctx(None);
    let result = handler
        .call(context.clone(), Content::sniff(""))
        .await
        .unwrap();
    assert_eq!(result.bytes, format!("{} 2 none none", context.task_id()));

    let result = handler
        .call(ctx(Some(Duration::from_secs(60))), Content::sniff(""))
        .await
        .unwrap();
    let text = String::from_utf8(result.bytes.to_vec()).unwrap();
    let deadline = text.split(' ').nth(2).unwrap();
    let deadline =
        time::OffsetDateTime::parse(deadline, &time::format_description::well_known::Rfc3339)
            .unwrap();
    let remaining = deadline - time::OffsetDateTime::now_utc();
    assert!(
        deadline.offset().is_utc() && (50..=60).contains(&remaining.whole_seconds()),
        "{text}"
    );
}

#[tokio::test]
async fn attempts_and_the_trace_are_in_the_environment() {
    let dir = script("handler", "echo \"$GF_MAX_ATTEMPTS ${TRACEPARENT-none}\"");
    let handler = find(&handlers(dir.path()), "handler");
    let result = handler.call(ctx(None), Content::sniff("")).await.unwrap();
    assert_eq!(result.bytes, "3 none");
    let mut message = message(None);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let header = ("traceparent".to_owned(), trace.to_owned());
    let spec = Arc::make_mut(&mut message.spec);
    spec.headers.insert(header.0, header.1);
    let result = handler
        .call(Ctx::detached(message), Content::sniff(""))
        .await
        .unwrap();
    assert_eq!(result.bytes, format!("3 {trace}"));
}

#[tokio::test]
async fn exit_codes_say_what_comes_next() {
    assert_eq!(
        run("echo 'no such paper' >&2; exit 65", "").await,
        Err(HandlerError::permanent("no such paper"))
    );
    assert_eq!(
        run("echo 'busy' >&2; exit 75", "").await,
        Err(HandlerError::snooze(Duration::from_secs(60)))
    );
}

#[tokio::test]
async fn failures_say_why() {
    assert_eq!(
        run("echo 'no paper' >&2; exit 3", "").await,
        Err(HandlerError::retry("no paper"))
    );
    assert_eq!(
        run("exit 3", "").await,
        Err(HandlerError::retry("exit status 3"))
    );
    assert_eq!(
        run("kill -9 $$", "").await,
        Err(HandlerError::retry("killed by SIGKILL"))
    );

    let error = run(
        "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i + 1)); done >&2; exit 1",
        "",
    )
    .await;
    let text = format!("{error:?}");
    assert!(
        text.contains("line 3999") && !text.contains("line 1\\n") && text.len() < 12_000,
        "{text}"
    );

    let dir = script("handler", "");
    std::fs::write(dir.path().join("handler"), "#!/nonexistent/interpreter\n").unwrap();
    let error = find(&handlers(dir.path()), "handler")
        .call(ctx(None), Content::sniff(""))
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("start /"), "{error:?}");
}

#[tokio::test]
async fn a_result_too_large_is_a_permanent_failure_at_once() {
    let start = Instant::now();
    let error = run("yes", "").await.unwrap_err();
    assert_eq!(
        error,
        HandlerError::permanent("result larger than 921600 bytes, which is the most")
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_the_program_leaves_behind_ends_with_it() {
    let dir = script(
        "handler",
        "sleep 1000 & echo $! >\"$(dirname \"$0\")/pids\"; echo done",
    );
    let start = Instant::now();
    let result = find(&handlers(dir.path()), "handler")
        .call(ctx(None), Content::sniff(""))
        .await;
    assert_eq!(result, Ok(Content::new("done", TEXT)));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "waited for a child of the handler"
    );
    all_gone(&pids(&dir.path().join("pids"), 1).await).await;
}

#[tokio::test]
async fn a_handler_that_is_dropped_takes_its_group_along() {
    let dir = script(
        "handler",
        "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! >\"$(dirname \"$0\")/pids\"; echo $$ >>\"$(dirname \"$0\")/pids\"; wait",
    );
    let handler = find(&handlers(dir.path()), "handler");
    let call = handler.call(ctx(None), Content::sniff(""));
    let file = dir.path().join("pids");
    let pids = tokio::select! {
        _ = call => panic!("it ended"),
        pids = pids(&file, 2) => pids,
    };
    assert!(
        timeout(Duration::from_secs(5), all_gone(&pids))
            .await
            .is_ok()
    );
    assert!(!is_running(pids[0]));
}
