//! `/metrics` in the Prometheus text format.

use std::fmt::{Display, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use goflow_core::engine::QueueStatus;

use crate::app::App;

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (health, queues) = tokio::join!(app.engine.health(), app.engine.queues());
    let mut page = Page::default();
    page.family(
        "goflow_build_info",
        "gauge",
        "Always 1; the label says which version this is.",
    );
    page.sample(
        "goflow_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    page.family("goflow_up", "gauge", "Whether the part answers.");
    page.sample(
        "goflow_up",
        &[("part", "store")],
        u8::from(health.store.is_none()),
    );
    page.sample(
        "goflow_up",
        &[("part", "broker")],
        u8::from(health.broker.is_none()),
    );
    page.family("goflow_ready", "gauge", "Whether pushes are accepted.");
    page.sample("goflow_ready", &[], u8::from(health.ready));
    page.family(
        "goflow_pushed_tasks_total",
        "counter",
        "Tasks accepted by this gateway.",
    );
    page.sample("goflow_pushed_tasks_total", &[], app.pushed());
    page.family(
        "goflow_finished_tasks_total",
        "counter",
        "Tasks that this gateway heard finish.",
    );
    page.sample("goflow_finished_tasks_total", &[], app.feed.count());
    page.workers(&app);
    // Without the store there is nothing to say of queues, and goflow_up says why.
    if let Ok(queues) = queues {
        page.queues(&queues);
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], page.0).into_response()
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Label values are names by grammar or constants: none needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }

    fn workers(&mut self, app: &App) {
        let workers = app.engine.workers();
        let sum = |count: fn(&goflow_core::engine::WorkerSeen) -> usize| {
            workers.iter().map(count).sum::<usize>()
        };
        self.family("goflow_workers", "gauge", "Live workers.");
        self.sample("goflow_workers", &[], workers.len());
        self.family(
            "goflow_worker_slots",
            "gauge",
            "Tasks that all live workers can run at once.",
        );
        self.sample(
            "goflow_worker_slots",
            &[],
            sum(|worker| worker.status.slots),
        );
        self.family("goflow_worker_running", "gauge", "Tasks that they run.");
        let running = sum(|worker| {
            worker
                .status
                .held
                .iter()
                .filter(|task| task.started_at.is_some())
                .count()
        });
        self.sample("goflow_worker_running", &[], running);
    }

    fn queues(&mut self, queues: &[QueueStatus]) {
        self.family(
            "goflow_tasks",
            "gauge",
            "Unfinished tasks by queue and state; running ones are queued ones too.",
        );
        for status in queues {
            let counts = &status.counts;
            let states = [
                ("scheduled", counts.scheduled),
                ("queued", counts.queued),
                ("running", status.running as u64),
                ("retrying", counts.retrying),
            ];
            for (state, count) in states {
                self.sample(
                    "goflow_tasks",
                    &[("queue", counts.queue.as_str()), ("state", state)],
                    count,
                );
            }
        }
        self.family(
            "goflow_queue_paused",
            "gauge",
            "Whether the queue is paused.",
        );
        for status in queues {
            self.sample(
                "goflow_queue_paused",
                &[("queue", status.counts.queue.as_str())],
                u8::from(status.counts.paused),
            );
        }
        self.family(
            "goflow_unserved_tasks",
            "gauge",
            "Tasks that wait for a worker that serves their type.",
        );
        for status in queues {
            for (task_type, count) in &status.counts.unserved {
                let labels = [
                    ("queue", status.counts.queue.as_str()),
                    ("type", task_type.as_str()),
                ];
                self.sample("goflow_unserved_tasks", &labels, count);
            }
        }
        self.family(
            "goflow_oldest_queued_seconds",
            "gauge",
            "The age of the oldest queued task.",
        );
        for status in queues {
            let age = status.counts.oldest.unwrap_or_default().as_secs_f64();
            self.sample(
                "goflow_oldest_queued_seconds",
                &[("queue", status.counts.queue.as_str())],
                age,
            );
        }
        self.family(
            "goflow_queue_workers",
            "gauge",
            "Live workers that take from the queue.",
        );
        for status in queues {
            self.sample(
                "goflow_queue_workers",
                &[("queue", status.counts.queue.as_str())],
                status.workers,
            );
        }
    }
}
