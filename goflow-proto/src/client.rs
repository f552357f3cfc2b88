//! The generated client and a channel made for it.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Error};

pub use crate::v1::go_flow_client::GoFlowClient;

/// The largest answer a client takes, in bytes: a page of 500 tasks with payload, result and error each.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Connects to a gateway, such as `http://127.0.0.1:8080`. Cheap to clone; it reconnects by itself.
///
/// # Errors
/// What is wrong with the address, or why nothing answers there within 5 s.
pub async fn connect(server: impl Into<String>) -> Result<GoFlowClient<Channel>, Error> {
    let endpoint = Endpoint::from_shared(server.into())?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .tcp_nodelay(true);
    Ok(GoFlowClient::new(endpoint.connect().await?).max_decoding_message_size(MAX_ANSWER))
}
