//! Handlers: what an application wants done for a task type.
//!
//! A handler is a plain async function. It takes a payload, or a [`Ctx`] and a payload, and returns a result
//! or an error. Payloads and results are anything serde reads and writes as JSON, or [`Raw`] for bytes.
//!
//! ```
//! # use goflow_core::{Ctx, HandlerError, Raw};
//! # #[derive(serde::Deserialize)] struct Order { id: u64 }
//! # #[derive(serde::Serialize)] struct Receipt { order: u64 }
//! async fn bill(order: Order) -> Result<Receipt, HandlerError> {
//!     Ok(Receipt { order: order.id })
//! }
//!
//! async fn raw(ctx: Ctx, Raw(payload): Raw) -> Result<Raw, std::io::Error> {
//!     println!("attempt {} of {}", ctx.attempt(), ctx.task_id());
//!     Ok(Raw(payload))
//! }
//! # let mut handlers = goflow_core::Handlers::default();
//! # handlers.register("bill", bill).unwrap();
//! # handlers.register("raw", raw).unwrap();
//! ```

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foldhash::HashMap;
use serde::{Serialize, de::DeserializeOwned};

use crate::content::Content;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::limits;
use crate::name::TaskType;
use crate::outcome::Verdict;

/// Runs the tasks of one type. Implemented by async functions through [`IntoHandler`].
#[async_trait]
pub trait Handler: Send + Sync {
    /// Runs one attempt. A panic in here is a failed attempt.
    ///
    /// # Errors
    /// What the attempt failed of.
    async fn call(&self, ctx: Ctx, payload: Content) -> Result<Content, HandlerError>;
}

/// Why an attempt failed. Made by `?` from anything that can be displayed; then the task is tried again.
///
/// It does not implement `Display`, and so not `Error`: that is what lets every error turn into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    pub(crate) message: String,
    pub(crate) next: AfterError,
}

/// What a failed handler wants to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterError {
    Retry,
    RetryAfter(Duration),
    Never,
    Snooze(Duration),
}

impl HandlerError {
    /// A failure after which the task is tried again, as long as it has attempts.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::new(message, AfterError::Retry)
    }

    /// The same, but after `wait` (24 h at most) in place of the task's backoff.
    pub fn retry_after(wait: Duration, message: impl fmt::Display) -> Self {
        Self::new(message, AfterError::RetryAfter(wait))
    }

    /// A failure that no further attempt can mend.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::new(message, AfterError::Never)
    }

    /// Not now: the handler wants to be called again after `wait`. It is no failure and uses no attempt.
    pub fn snooze(wait: Duration) -> Self {
        Self::new(
            format_args!("snoozed for {wait:?}"),
            AfterError::Snooze(wait),
        )
    }

    fn new(message: impl fmt::Display, next: AfterError) -> Self {
        Self {
            message: format!("{message:#}"),
            next,
        }
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        let error = limits::clip_error(&self.message);
        match self.next {
            AfterError::Retry => Verdict::failed(error),
            AfterError::RetryAfter(wait) => Verdict::Failed {
                error,
                permanent: false,
                retry_after: Some(wait),
            },
            AfterError::Never => Verdict::failed_for_good(error),
            AfterError::Snooze(wait) => Verdict::Snoozed { wait },
        }
    }
}

impl<E: fmt::Display> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// What a handler can take as its payload.
pub trait FromPayload: Sized {
    /// Reads the payload.
    ///
    /// # Errors
    /// A permanent failure: the same payload will not read better the next time.
    fn from_payload(payload: Content) -> Result<Self, HandlerError>;
}

/// What a handler can return as its result.
pub trait IntoResult {
    /// Writes the result.
    ///
    /// # Errors
    /// A permanent failure when the value has no JSON form.
    fn into_result(self) -> Result<Content, HandlerError>;
}

/// A payload or result as it is: bytes and content type, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Content);

impl FromPayload for Raw {
    fn from_payload(payload: Content) -> Result<Self, HandlerError> {
        Ok(Self(payload))
    }
}

impl IntoResult for Raw {
    fn into_result(self) -> Result<Content, HandlerError> {
        Ok(self.0)
    }
}

impl<T: DeserializeOwned> FromPayload for T {
    fn from_payload(payload: Content) -> Result<Self, HandlerError> {
        serde_json::from_slice(&payload.bytes).map_err(|error| {
            HandlerError::permanent(format!("payload does not fit the handler: {error}"))
        })
    }
}

impl<T: Serialize> IntoResult for T {
    fn into_result(self) -> Result<Content, HandlerError> {
        Content::json(&self)
            .map_err(|error| HandlerError::permanent(format!("result has no JSON form: {error}")))
    }
}

/// What can be registered as a handler: async functions of a payload, or of a [`Ctx`] and a payload.
pub trait IntoHandler<Arguments> {
    /// The handler.
    fn into_handler(self) -> Arc<dyn Handler>;
}

struct Function<F, Arguments> {
    function: F,
    arguments: PhantomData<fn(Arguments)>,
}

#[async_trait]
impl<F, P, R, E, Fut> Handler for Function<F, (P,)>
where
    F: Fn(P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send,
    P: FromPayload + Send + 'static,
    R: IntoResult + Send,
    E: Into<HandlerError> + Send,
{
    async fn call(&self, _: Ctx, payload: Content) -> Result<Content, HandlerError> {
        (self.function)(P::from_payload(payload)?)
            .await
            .map_err(Into::into)?
            .into_result()
    }
}

#[async_trait]
impl<F, P, R, E, Fut> Handler for Function<F, (Ctx, P)>
where
    F: Fn(Ctx, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send,
    P: FromPayload + Send + 'static,
    R: IntoResult + Send,
    E: Into<HandlerError> + Send,
{
    async fn call(&self, ctx: Ctx, payload: Content) -> Result<Content, HandlerError> {
        (self.function)(ctx, P::from_payload(payload)?)
            .await
            .map_err(Into::into)?
            .into_result()
    }
}

impl<F, P, R, E, Fut> IntoHandler<(P,)> for F
where
    F: Fn(P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    P: FromPayload + Send + 'static,
    R: IntoResult + Send + 'static,
    E: Into<HandlerError> + Send + 'static,
{
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(Function {
            function: self,
            arguments: PhantomData,
        })
    }
}

impl<F, P, R, E, Fut> IntoHandler<(Ctx, P)> for F
where
    F: Fn(Ctx, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    P: FromPayload + Send + 'static,
    R: IntoResult + Send + 'static,
    E: Into<HandlerError> + Send + 'static,
{
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(Function {
            function: self,
            arguments: PhantomData,
        })
    }
}

/// Marks a value that implements [`Handler`] itself, so that it can be registered too.
#[derive(Debug)]
pub struct ByTrait;

impl IntoHandler<ByTrait> for Arc<dyn Handler> {
    fn into_handler(self) -> Arc<dyn Handler> {
        self
    }
}

/// Handlers by the type they serve.
#[derive(Clone, Default)]
pub struct Handlers(HashMap<TaskType, Arc<dyn Handler>>);

impl Handlers {
    /// Adds a handler.
    ///
    /// # Errors
    /// [`Error::Name`] for an invalid type, [`Error::HandlerExists`] for a second handler of one type.
    pub fn register<A>(
        &mut self,
        task_type: impl AsRef<str>,
        handler: impl IntoHandler<A>,
    ) -> Result<(), Error> {
        let task_type = TaskType::new(task_type)?;
        if self.0.contains_key(&task_type) {
            return Err(Error::HandlerExists(task_type.to_string()));
        }
        self.0.insert(task_type, handler.into_handler());
        Ok(())
    }

    /// The handler of a type.
    pub fn get(&self, task_type: &TaskType) -> Option<Arc<dyn Handler>> {
        self.0.get(task_type).cloned()
    }

    /// The types that have one, sorted.
    pub fn types(&self) -> Vec<TaskType> {
        let mut types: Vec<_> = self.0.keys().cloned().collect();
        types.sort();
        types
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handlers").field(&self.types()).finish()
    }
}
