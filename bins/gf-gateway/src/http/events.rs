//! `GET /v1/events`: finished tasks as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use goflow_core::TaskRecord;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::app::App;
use crate::finished::Wanted;
use crate::http::query;
use crate::json::{task, text};
use crate::problem::Problem;

/// The longest silence of a stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn events(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let wanted = query::wanted(&uri)?;
    let permit = app.stream_permit()?;
    let ending = app.ending.clone();
    let events = app.feed.watch().filter_map(move |seen| {
        let event = event(seen, &wanted);
        // The stream holds its permit for as long as it lives.
        let _ = &permit;
        async move { event.map(Ok::<_, Infallible>) }
    });
    let events = events.take_until(ending.cancelled_owned());
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn event(
    seen: Result<Arc<TaskRecord>, BroadcastStreamRecvError>,
    wanted: &Wanted,
) -> Option<Event> {
    match seen {
        Ok(record) if wanted.matches(&record) => {
            let json = task::to_raw(&record)?;
            let event = Event::default()
                .event("finished")
                .id(record.spec.id.to_string());
            Some(event.data(text::on_one_line(json.get())))
        }
        Ok(_) => None,
        Err(BroadcastStreamRecvError::Lagged(missed)) => Some(
            Event::default()
                .event("missed")
                .data(format!("{{\"missed\":{missed}}}")),
        ),
    }
}
