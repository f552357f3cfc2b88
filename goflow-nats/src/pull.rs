//! One pull: the messages that are there, or the first that comes.

use std::time::Duration;

use async_nats::{Message, StatusCode};
use goflow_core::broker::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::lease;
use crate::link::{Life, Link};
use crate::request::{self, Request};

const OPERATION: &str = "dequeue";

/// How long to wait for a connection, longer than for a message.
const SLACK: Duration = Duration::from_secs(3);

/// How long the server may take to answer what it answers at once, or to say that time is up. Then it is asked
/// whether it is there at all.
const PROMPT: Duration = Duration::from_millis(250);

/// Between two requests when the server has none to spare at the moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Most messages in one request.
const MOST_MESSAGES: usize = 10_000;

/// Messages nobody has taken yet; they go back to the queue if nobody ever does.
pub(crate) struct Pulled {
    link: Link,
    messages: Vec<Message>,
    /// When the leases began: so early that there is time for a renewal to reach the server. On a slow link what comes
    /// was sent long ago, and what is sent comes late.
    pub(crate) leased_at: Instant,
    asked: Asked,
}

/// When the server was last asked.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// To answer at once.
    ForPresent(Instant),
    /// To answer when there is something.
    ForNext(Instant),
    /// And has answered since.
    Before,
}

impl Pulled {
    fn new(link: &Link) -> Self {
        Self {
            link: link.clone(),
            messages: Vec::new(),
            leased_at: Instant::now(),
            asked: Asked::Before,
        }
    }

    /// Notes that the server has said something: the first tells how long it takes.
    fn heard(&mut self) {
        let now = Instant::now();
        let lag = match std::mem::replace(&mut self.asked, Asked::Before) {
            Asked::ForPresent(at) => self.link.note_lag(now - at),
            Asked::ForNext(at) => self.link.lag().min(now - at),
            Asked::Before => return,
        };
        self.leased_at = now.checked_sub(2 * lag).unwrap_or(now);
    }

    /// Notes that nothing is answered at once: a consumer that is paused answers when it is not any more.
    fn silent(&mut self) {
        if let Asked::ForPresent(at) = self.asked {
            self.asked = Asked::ForNext(at);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        let messages = self.take();
        if messages.is_empty() {
            return;
        }
        let link = self.link.clone();
        self.link.spawn(async move {
            for reply in messages.into_iter().filter_map(|message| message.reply) {
                lease::give_back(&link, reply).await;
            }
        });
    }
}

/// Pulls up to `max` messages from a consumer, waiting up to `wait` for the first.
///
/// It runs on the connection's own thread and to its end: when the caller goes away, what still arrives is given back.
pub(crate) async fn pull(
    link: &Link,
    (stream, consumer): (&str, &str),
    channel: &str,
    max: usize,
    wait: Duration,
) -> Result<Pulled, Error> {
    let (sender, receiver) = oneshot::channel();
    let pull = Pull {
        stream: stream.to_owned(),
        consumer: consumer.to_owned(),
        channel: channel.to_owned(),
        max: max.min(MOST_MESSAGES),
        link: link.clone(),
        waits: !wait.is_zero(),
        give_up: Instant::now() + wait,
    };
    link.spawn(pull.run(sender));
    receiver.await.unwrap_or(Err(Error::Closed))
}

type Caller = oneshot::Sender<Result<Pulled, Error>>;

struct Pull {
    link: Link,
    stream: String,
    consumer: String,
    channel: String,
    max: usize,
    waits: bool,
    give_up: Instant,
}

/// How the answer to a request ended.
enum End {
    /// The server has said that this was all.
    Complete,
    /// The server cannot serve it just now.
    Busy,
    Failed(Error),
    /// The server has said nothing in time: the consumer is paused, or the server hangs.
    Silent,
    /// Nobody waits for it any more.
    Abandoned,
    /// The connection is being closed.
    Closing,
}

impl Pull {
    async fn run(self, mut caller: Caller) {
        let answer = self.answer(&mut caller).await;
        // When the caller has gone, what was pulled is dropped, and with that given back.
        drop(caller.send(answer));
    }

    async fn answer(&self, caller: &mut Caller) -> Result<Pulled, Error> {
        let life = tokio::select! {
            life = self.link.connected(OPERATION, self.give_up + SLACK) => life?,
            // Nobody reads it.
            () = caller.closed() => return Err(Error::Closed),
            () = self.link.closing().cancelled() => return Err(Error::Closed),
        };
        let mut request = Request::open(&self.link, (&self.stream, &self.consumer)).await?;
        let mut pulled = Pulled::new(&self.link);
        let (mut end, mut max) = (End::Complete, self.max);
        if !self.waits {
            pulled.asked = Asked::ForPresent(Instant::now());
            request.ask_for_present(self.max).await?;
            // Whoever called may have gone: that this ends soon is cheaper than to withdraw it.
            end = self.collect(&mut request, &mut pulled, life, None).await;
        }
        while self.waits && pulled.messages.is_empty() && !caller.is_closed() {
            match end {
                End::Complete | End::Busy => {
                    let wait = self.give_up.saturating_duration_since(Instant::now());
                    pulled.asked = Asked::ForNext(Instant::now());
                    request.ask_for_next(max, wait).await?;
                }
                // What was asked is still to be answered, once the consumer is not paused any more.
                End::Silent => {}
                End::Failed(_) | End::Abandoned | End::Closing => break,
            }
            end = self
                .collect(&mut request, &mut pulled, life, Some(caller))
                .await;
            match end {
                // The few that are there are for others who wait. Who asks for one waits with them.
                End::Busy if max > 1 => max = 1,
                End::Busy if Instant::now() + PAUSE < self.give_up => {
                    tokio::time::sleep(PAUSE).await
                }
                _ => break,
            }
        }
        match end {
            End::Complete | End::Busy => Ok(pulled),
            End::Failed(error) if pulled.messages.is_empty() => Err(error),
            End::Failed(_) => Ok(pulled),
            End::Silent | End::Abandoned | End::Closing => {
                let began = Instant::now();
                let withdrawn = request.withdraw(life).await;
                if withdrawn.confirmed {
                    self.link.note_lag(began.elapsed());
                }
                pulled.heard();
                pulled.messages.extend(withdrawn.messages);
                match end {
                    End::Closing => Err(Error::Closed),
                    End::Silent if !withdrawn.confirmed && pulled.messages.is_empty() => {
                        Err(Error::unavailable(OPERATION, "the server did not answer"))
                    }
                    _ => Ok(pulled),
                }
            }
        }
    }

    /// Takes the answers to what was asked: with a caller until the wait is over or the caller gone, without one
    /// only as long as it takes.
    async fn collect(
        &self,
        request: &mut Request,
        pulled: &mut Pulled,
        life: Life,
        caller: Option<&mut Caller>,
    ) -> End {
        let began = Instant::now();
        let mut until = if caller.is_some() {
            self.give_up.max(began)
        } else {
            began
        };
        let silence = tokio::time::sleep_until(until + PROMPT);
        let gone = async {
            match caller {
                Some(caller) => caller.closed().await,
                None => std::future::pending().await,
            }
        };
        let mut lives = self.link.lives();
        tokio::pin!(silence, gone);
        while request.is_open() {
            let answer = tokio::select! {
                biased;
                answer = request.next() => answer,
                _ = lives.wait_for(|now| *now != life) => return lost("the connection was lost"),
                () = self.link.closing().cancelled() => return End::Closing,
                () = &mut gone => return End::Abandoned,
                () = &mut silence => {
                    pulled.silent();
                    return End::Silent;
                }
            };
            let Some(answer) = answer else {
                return lost("the connection was closed");
            };
            pulled.heard();
            if request::is_message(&answer) {
                pulled.messages.push(answer);
                // What is there comes at once, and the end behind it.
                until = Instant::now();
                silence.as_mut().reset(until + PROMPT);
            } else if let Some(status) = answer.status {
                let end = self.end(status, answer.description.as_deref().unwrap_or_default());
                if !matches!(end, End::Complete) {
                    return end;
                }
            }
        }
        End::Complete
    }

    fn end(&self, status: StatusCode, description: &str) -> End {
        let no_channel = || {
            End::Failed(Error::NoChannel {
                channel: self.channel.clone(),
            })
        };
        match (status, description) {
            // Others wait for the few messages that are there: they are as good as taken.
            (StatusCode::TIMEOUT, "Requests Pending") => End::Busy,
            (StatusCode::TIMEOUT | StatusCode::NOT_FOUND, _) => End::Complete,
            (_, "Batch Completed") => End::Complete,
            (StatusCode::NO_RESPONDERS, _) => no_channel(),
            (_, "Consumer Deleted") => no_channel(),
            (_, "Message Size Exceeds MaxBytes") => End::Complete,
            (_, "Exceeded MaxWaiting") => End::Busy,
            (status, description) => End::Failed(Error::unavailable(
                OPERATION,
                format!("{description} (status {status})"),
            )),
        }
    }
}

fn lost(detail: &'static str) -> End {
    End::Failed(Error::unavailable(OPERATION, detail))
}
