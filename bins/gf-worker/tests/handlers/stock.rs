use std::time::{Duration, Instant};

use goflow_core::{Content, HandlerError};

use super::{ctx, find, script, write_script};

#[tokio::test]
async fn echo_returns_what_it_got() {
    let handlers = gf_worker::stock_handlers(None).unwrap();
    let types: Vec<String> = handlers.types().iter().map(ToString::to_string).collect();
    assert_eq!(types, ["echo", "sleep"]);
    for payload in [
        Content::sniff("{\"a\": 1}"),
        Content::new(&b"\xff\0"[..], "image/x-none"),
    ] {
        assert_eq!(
            find(&handlers, "echo")
                .call(ctx(None), payload.clone())
                .await,
            Ok(payload)
        );
    }
}

#[tokio::test]
async fn sleep_sleeps_and_knows_its_payload() {
    let sleep = find(&gf_worker::stock_handlers(None).unwrap(), "sleep");
    let start = Instant::now();
    let payload = Content::sniff("{\"ms\":50}");
    assert_eq!(sleep.call(ctx(None), payload.clone()).await, Ok(payload));
    assert!(start.elapsed() >= Duration::from_millis(50));
    for bad in ["{}", "{\"ms\":-1}", "7", ""] {
        let error = sleep
            .call(ctx(None), Content::sniff(bad))
            .await
            .unwrap_err();
        assert_ne!(error, HandlerError::retry(""));
        assert!(format!("{error:?}").contains("Never"), "{error:?}");
    }
}

#[test]
fn handlers_are_named_like_their_files() {
    let dir = script("count-words.py", "");
    write_script(dir.path(), "plain", "");
    write_script(dir.path(), ".hidden", "");
    std::fs::write(dir.path().join("README.md"), "").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let handlers = gf_worker::stock_handlers(Some(dir.path())).unwrap();
    let types: Vec<String> = handlers.types().iter().map(ToString::to_string).collect();
    assert_eq!(types, ["count-words", "echo", "plain", "sleep"]);
}

#[test]
fn what_cannot_be_a_handler_is_named() {
    let error = |dir: &tempfile::TempDir| {
        format!(
            "{:#}",
            gf_worker::stock_handlers(Some(dir.path())).unwrap_err()
        )
    };
    let invalid = error(&script("two words.sh", ""));
    assert!(
        invalid.contains("two words.sh") && invalid.contains("is not a name"),
        "{invalid}"
    );
    let built_in = error(&script("echo.sh", ""));
    assert!(
        built_in.contains("echo.sh: the type echo is built in"),
        "{built_in}"
    );
    let twice = script("a.sh", "");
    write_script(twice.path(), "a.py", "");
    let twice = error(&twice);
    assert!(
        twice.contains("a.py and ") && twice.ends_with("a.sh are both handlers of a"),
        "{twice}"
    );

    let missing = gf_worker::stock_handlers(Some("/nonexistent".as_ref())).unwrap_err();
    assert!(format!("{missing:#}").starts_with("read the handlers in /nonexistent: "));
}
