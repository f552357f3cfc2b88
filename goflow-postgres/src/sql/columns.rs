//! Lists of columns that several statements share, as macros, because `concat!` takes only literals.

/// The columns of a [`TaskSpec`](goflow_core::TaskSpec).
macro_rules! spec {
    () => {
        "id, namespace, queue, type, payload, content_type, headers, tags, max_attempts, backoff, timeout_ms, start"
    };
}

/// The same as arrays, and how they become columns: `$1` to `$12`.
macro_rules! spec_arrays {
    () => {
        "$1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], \
         $9::int[], $10::text[], $11::bigint[], $12::text[]"
    };
}
macro_rules! spec_values {
    () => {
        "id, namespace, queue, type, payload, content_type, headers::jsonb, tags::jsonb, max_attempts, \
         backoff::jsonb, timeout_ms, start::jsonb"
    };
}

/// The columns of a record but for its content and its failed attempts.
macro_rules! live_record {
    () => {
        "id, namespace, queue, type, content_type, headers, tags, max_attempts, backoff, timeout_ms, start, state, \
         attempt, dispatch, error, worker, greatest(starts - 1, 0) as crashes, waiting and unserved > 0 as unserved, \
         case when waiting then due_at end as due_at, started_at, null::timestamptz as finished_at, \
         null::text as result_content_type"
    };
}
macro_rules! history_record {
    () => {
        "id, namespace, queue, type, content_type, headers, tags, max_attempts, backoff, timeout_ms, start, state, \
         attempt, dispatch, error, worker, crashes, false as unserved, null::timestamptz as due_at, started_at, \
         finished_at, result_content_type"
    };
}
