//! Requests of the gRPC surface: protobuf, and what the gateway turns it into.

use gf_gateway::fuzzing::{Refused, grpc};
use goflow_core::record::MAX_PAGE;
use goflow_proto::v1;
use prost::Message;

use super::Target;
use crate::check;

pub(super) const GRPC: Target = Target {
    name: "grpc",
    about: "requests of the gRPC surface: a byte that says which, then protobuf",
    words: &[
        "application/json",
        "text/plain",
        "default",
        "2030-01-31T12:00:00Z",
        "01890000-0000-7000-8000-000000000001",
        "\u{8}\u{1}",
        "{\"n\":1}",
    ],
    run,
};

fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    let converted = match which % 8 {
        0 => with(bytes, |request: v1::PushTaskRequest| {
            grpc::push(request.clone())?;
            let key = request.idempotency_key.clone();
            match grpc::push_of_batch(request) {
                Ok(task) => check::task(task),
                Err(problem) => {
                    assert!(!key.is_empty(), "a batch refuses what a push takes");
                    check::refusal(&problem);
                }
            }
            Ok(())
        }),
        1 => with(bytes, |request: v1::PushTasksRequest| {
            for task in request.tasks {
                check::task(grpc::push_of_batch(task)?);
            }
            Ok(())
        }),
        2 => with(bytes, |request: v1::ListTasksRequest| {
            let (_, page) = grpc::list(request)?;
            assert!((1..=MAX_PAGE).contains(&page.limit));
            Ok(())
        }),
        3 => with(bytes, |request: v1::CancelTasksRequest| {
            let (filter, _) = grpc::change(request.filter, request.limit)?;
            for time in [filter.since, filter.until].into_iter().flatten() {
                check::moment(time);
            }
            Ok(())
        }),
        4 => with(bytes, |request: v1::WatchTasksRequest| {
            grpc::watch(request).map(drop)
        }),
        5 => with(bytes, |request: v1::ListDeadRequest| {
            let since = grpc::since(&request)?;
            since.into_iter().for_each(check::moment);
            Ok(())
        }),
        6 => with(bytes, |request: v1::WaitResultRequest| {
            let timeout = request.timeout.as_ref();
            timeout.map(grpc::timeout).transpose().map(drop)
        }),
        _ => with(bytes, |request: v1::CommandWorkerRequest| {
            grpc::command(request.command)
        }),
    };
    if let Err(problem) = converted {
        check::refusal(&problem);
    }
}

/// Reads a request, which is the same after a journey, and converts it.
fn with<T: Message + Default + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    convert: impl FnOnce(T) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let request = match T::decode(bytes) {
        Ok(request) => request,
        Err(error) => {
            check::reason(&error.to_string());
            return Ok(());
        }
    };
    let again = T::decode(&*request.encode_to_vec()).expect("what was written can be read");
    assert_eq!(again, request, "a request changed on its way");
    convert(request)
}
