//! The broker port of goflow over NATS JetStream.
//!
//! [`connect`] gives the [`Connection`](goflow_core::broker::Connection) that engines and workers are built on.
//!
//! | What | Where |
//! |---|---|
//! | tasks of a queue | stream `GF_Q_<queue>`, subjects `gf.q.<queue>.<priority>.<type>`, one durable consumer a priority |
//! | outcomes of a lasting route | stream `GF_RES`, subject `gf.res.<route>`, one durable consumer a route |
//! | outcomes of a passing route | stream `GF_RES_TMP`, subject `gf.rest.<route>`, gone some time after its engine |
//! | tombstones | stream `GF_CANCEL`, subjects `gf.cancel.<task>` |
//! | checkpoints | stream `GF_CHECKPOINT`, subjects `gf.checkpoint.<task>` |
//! | what cannot be decoded | stream `GF_QUARANTINE`, subjects `gf.quarantine.<queue or route>` |
//! | signals | core NATS, `gf.evt.<event>` and `gf.hb.<worker>`; commands to workers `gf.ctl.<worker>` |
//!
//! Streams and consumers are made, and brought up to date, by `prepare` and `identify`; nothing is ever deleted.
//!
//! Besides what its queues need (`$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`, `$JS.API.CONSUMER.INFO.<stream>.<consumer>`,
//! `$JS.ACK.>`), a worker must be allowed to read tombstones (`$JS.API.CONSUMER.CREATE.GF_CANCEL.>` and
//! `$JS.API.CONSUMER.MSG.NEXT.GF_CANCEL.*`), to write and read checkpoints (`gf.checkpoint.*` and
//! `$JS.API.DIRECT.GET.GF_CHECKPOINT.>`), and to hear `gf.ctl.*`.
//!
//! An engine that pauses queues needs `$JS.API.CONSUMER.PAUSE.>` and, to resume them at once, the consumers'
//! `MSG.NEXT`.
//!
//! All traffic runs on a thread of its own with a runtime of its own, so that an application whose threads are
//! all busy still answers the server and keeps its leases.

mod api;
mod batch;
mod broker;
mod checkpoints;
mod connect;
mod control;
mod error;
mod lease;
mod link;
mod options;
mod publish;
mod pull;
mod quarantine;
mod request;
mod signals;
mod tombstones;
mod topology;

pub use connect::connect;
pub use options::Options;
