use std::path::Path;

use goflow_core::content::{JSON, TEXT};
use goflow_core::{Content, HandlerError};

use super::{ctx, find, handlers};

#[tokio::test]
async fn the_example_handlers_do_what_they_say() {
    let handlers = handlers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/handlers"));
    let call = async |task_type, payload: &'static str| {
        find(&handlers, task_type)
            .call(ctx(None), Content::sniff(payload))
            .await
    };
    for (payload, doubled) in [
        ("{\"N\": 10}", "20"),
        ("{\"a\":{},\n\"N\":-4,\"b\":1}", "-8"),
    ] {
        assert_eq!(
            call("doubler", payload).await,
            Ok(Content::new(doubled, JSON))
        );
    }
    let no_number = HandlerError::permanent("the payload has no whole number \"N\"");
    assert_eq!(call("doubler", "{\"N\": 1.5}").await, Err(no_number));
    assert_eq!(
        call("counter", "{\"N\": 1}").await,
        Ok(Content::new("1", JSON))
    );
    assert_eq!(
        call("repeater", "say it again").await,
        Ok(Content::new("say it again", TEXT))
    );
    assert_eq!(
        call("errorer", "no").await,
        Err(HandlerError::retry("error for payload: no"))
    );
}
