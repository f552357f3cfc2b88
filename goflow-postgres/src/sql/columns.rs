//! Lists of columns that several statements share, as macros, because `concat!` takes only literals.

/// The columns of a [`TaskSpec`](goflow_core::TaskSpec).
macro_rules! spec {
    () => {
        concat!(spec_but_options!(), ", options")
    };
}
macro_rules! spec_but_options {
    () => {
        concat!(
            plain!(),
            ", headers, tags, backoff, timeout_ms, start, retry_of"
        )
    };
}
/// Those of a task that asks for nothing unusual: the others are null.
macro_rules! plain {
    () => {
        "id, namespace, queue, type, payload, content_type, max_attempts, priority"
    };
}

/// The same of a row that is deleted or updated as `t`.
macro_rules! spec_of_t {
    () => {
        "t.id, t.namespace, t.queue, t.type, t.payload, t.content_type, t.max_attempts, t.priority, t.headers, \
         t.tags, t.backoff, t.timeout_ms, t.start, t.retry_of, t.options"
    };
}

/// The same as arrays, and how they become columns: `$1` to `$15`, of which those of a plain task are the first 8.
macro_rules! spec_arrays {
    () => {
        concat!(
            plain_arrays!(),
            ", $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[], $14::uuid[], $15::text[]"
        )
    };
}
macro_rules! plain_arrays {
    () => {
        "$1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::int[], $8::smallint[]"
    };
}
macro_rules! spec_values {
    () => {
        concat!(
            plain!(),
            ", headers::jsonb, tags::jsonb, backoff::jsonb, timeout_ms, start::jsonb, retry_of, options::jsonb"
        )
    };
}

/// The columns of a record but for its content and its failed attempts.
macro_rules! live_record {
    () => {
        "id, namespace, queue, type, content_type, headers, tags, max_attempts, backoff, timeout_ms, start, \
         priority, retry_of, options, state, \
         attempt, attempt_limit, dispatch, error, worker, greatest(starts - 1, 0) as crashes, waiting and unserved > 0 as unserved, \
         case when waiting then due_at end as due_at, started_at, null::timestamptz as finished_at, \
         null::text as result_content_type"
    };
}
macro_rules! history_record {
    () => {
        "id, namespace, queue, type, content_type, headers, tags, max_attempts, backoff, timeout_ms, start, \
         priority, retry_of, options, state, \
         attempt, attempt_limit, dispatch, error, worker, crashes, false as unserved, null::timestamptz as due_at, started_at, \
         finished_at, result_content_type"
    };
}
