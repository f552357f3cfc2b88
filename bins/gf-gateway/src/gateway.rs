//! A gateway from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use gf_process::adapters;
use goflow_core::broker::Connection;
use goflow_core::{GoFlow, Worker};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::finished::Feed;
use crate::guard::{self, Hosts};
use crate::options::Options;
use crate::server::{self, Limits};
use crate::{grpc, http};

/// Runs a gateway until `shutdown`, then ends it in good order. `ready` hears where it listens once it serves.
///
/// # Errors
/// A listen address that is refused or taken, servers that are away at the start or refuse us, and handlers that
/// cannot be read.
pub async fn run(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<()> {
    let addresses = options.addresses().await?;
    let listener = TcpListener::bind(&*addresses)
        .await
        .with_context(|| format!("listen on {}", options.listen))?;
    let address = listener.local_addr().context("listen")?;

    // A mistake in the handlers should show before anything is started.
    let handlers = match options.workers() {
        0 => None,
        _ => Some(
            gf_worker::stock_handlers(options.worker.handlers_path.as_deref())
                .context("read the handlers")?,
        ),
    };
    if options.migrate {
        adapters::migrate(&options.store.url).await?;
    }
    let connection = adapters::broker(&options.broker).await?;
    let store = adapters::store(&options.store).await?;
    let engine = GoFlow::builder()
        .broker(connection.clone())
        .store(store)
        .record(options.record.into())
        .build();
    engine.start().await.context("start the engine")?;
    let worker = match handlers {
        Some(handlers) => Some(
            start_worker(&options, connection, handlers)
                .await
                .context("start the workers")?,
        ),
        None => None,
    };

    let served = serve(
        &options,
        &engine,
        listener,
        address,
        ready,
        worker.as_ref(),
        shutdown,
    )
    .await;
    engine.close().await.context("close the engine")?;
    served
}

async fn start_worker(
    options: &Options,
    connection: Connection,
    handlers: goflow_core::Handlers,
) -> Result<Worker, goflow_core::Error> {
    let builder = options.worker.builder(connection, handlers);
    let worker = builder.num_workers(options.workers()).build()?;
    worker.start().await?;
    Ok(worker)
}

async fn serve(
    options: &Options,
    engine: &GoFlow,
    listener: TcpListener,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
    worker: Option<&Worker>,
    shutdown: CancellationToken,
) -> Result<()> {
    let feed = Feed::new();
    let app = Arc::new(App::new(
        engine.clone(),
        options.record,
        feed.clone(),
        shutdown.clone(),
    ));
    let (grpc, health) = grpc::routes(&app).context("read the gRPC descriptors")?;
    let hosts = if options.insecure_no_auth {
        Hosts::Any
    } else {
        Hosts::Loopback
    };
    let routes = http::routes(Arc::clone(&app))
        .merge(grpc)
        .layer(middleware::from_fn_with_state(hosts, guard::check))
        .layer(middleware::map_response(no_sniffing));

    let mut around = JoinSet::new();
    around.spawn(feed.run(
        engine.finished().context("listen for finished tasks")?,
        engine.clone(),
    ));
    around.spawn(health);
    let limits = Limits {
        connections: options.max_connections.max(1),
        grace: options.worker.grace,
    };
    let drain = async {
        let Some(worker) = worker else { return Ok(()) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = worker.told_to_stop() => {
                tracing::info!("the workers inside were told to stop; the gateway goes on without them");
            }
        }
        worker.close().await
    };
    tracing::info!(%address, record = ?options.record, broker = %options.broker, store = %options.store.url, "gateway ready");
    ready(address);
    let ((), drained) = tokio::join!(
        server::serve(listener, routes, limits, shutdown.clone()),
        drain
    );
    around.shutdown().await;
    drained.context("drain the workers")
}

/// Browsers are to take every answer for what it says it is, and to keep none.
async fn no_sniffing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
