-- The stable face of the store for people with psql and for BI tools: its columns are an interface.

-- The time in a UUIDv7.
create function gf_id_time(id uuid) returns timestamptz
    language sql immutable parallel safe
    return to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0);

-- Content as jsonb: JSON as it is, text as a string, anything else null. What claims to be JSON or text and is
-- not (or holds a NUL, which jsonb cannot) is null too: one row must not break a query over many.
-- Not parallel safe: catching an error takes a subtransaction, which a parallel plan does not allow.
create function gf_content(bytes bytea, content_type text) returns jsonb
    language plpgsql immutable parallel unsafe
as $$
begin
    if content_type = 'application/json' or content_type like '%+json' then
        return convert_from(bytes, 'UTF8')::jsonb;
    elsif content_type like 'text/%' then
        return to_jsonb(convert_from(bytes, 'UTF8'));
    end if;
    return null;
exception when others then
    return null;
end
$$;

-- The failed attempts of an unfinished task.
create function gf_attempts(task uuid) returns jsonb
    language sql stable parallel safe
    return (
        select jsonb_agg(jsonb_build_object(
            'attempt', a.attempt, 'error', a.error, 'worker', a.worker,
            'started_at', a.started_at, 'finished_at', a.finished_at) order by a.attempt)
        from gf_attempt a where a.id = task
    );

create view goflow_tasks as
select
    id, namespace, queue, type, state, attempt, attempt_limit as max_attempts,
    gf_content(payload, content_type) as payload,
    null::jsonb as result,
    content_type,
    null::text as result_content_type,
    payload as payload_bytes,
    null::bytea as result_bytes,
    error,
    coalesce(gf_attempts(id), '[]') as attempts,
    worker,
    greatest(starts - 1, 0) as crashes,
    waiting and unserved > 0 as unserved,
    coalesce(tags, '{}') as tags,
    coalesce(headers, '{}') as headers,
    case when waiting then due_at end as due_at,
    gf_id_time(id) as created_at,
    started_at,
    null::timestamptz as finished_at
from gf_task
union all
select
    id, namespace, queue, type, state, attempt, attempt_limit,
    gf_content(payload, content_type),
    gf_content(result, result_content_type),
    content_type,
    result_content_type,
    payload,
    result,
    error,
    coalesce(attempts, '[]'),
    worker,
    crashes,
    false,
    coalesce(tags, '{}'),
    coalesce(headers, '{}'),
    null,
    gf_id_time(id),
    started_at,
    finished_at
from gf_history;

comment on view goflow_tasks is
    'Every task goflow knows, unfinished and finished. The columns are stable: later versions only add to them. Filter by finished_at or id where you can.';
comment on column goflow_tasks.id is 'UUIDv7: sorts by the time of the push.';
comment on column goflow_tasks.namespace is 'Keeps the tasks of tenants apart.';
comment on column goflow_tasks.queue is 'The queue it waits in.';
comment on column goflow_tasks.type is 'Which handler runs it.';
comment on column goflow_tasks.state is 'scheduled, queued, retrying, succeeded, failed, cancelled, crashed or expired. A task that runs is queued here.';
comment on column goflow_tasks.attempt is 'The attempt under way, to come, or the last one: from 1.';
comment on column goflow_tasks.max_attempts is 'Failed attempts after which it has failed; a retry by hand raises it.';
comment on column goflow_tasks.payload is 'The payload where it is JSON, or a string where it is text; null otherwise: see payload_bytes.';
comment on column goflow_tasks.result is 'What the handler returned, in the same form as the payload.';
comment on column goflow_tasks.content_type is 'The media type of the payload.';
comment on column goflow_tasks.result_content_type is 'The media type of the result.';
comment on column goflow_tasks.payload_bytes is 'The payload exactly as it was pushed.';
comment on column goflow_tasks.result_bytes is 'The result exactly as the handler returned it.';
comment on column goflow_tasks.error is 'The last error; null once it has succeeded.';
comment on column goflow_tasks.attempts is 'Every failed attempt, oldest first: attempt, error, worker, started_at, finished_at.';
comment on column goflow_tasks.worker is 'The worker of the last outcome.';
comment on column goflow_tasks.crashes is 'Deliveries that started and ended without an outcome.';
comment on column goflow_tasks.unserved is 'Whether it waits for a worker that serves its type.';
comment on column goflow_tasks.tags is 'Tags as an object of strings.';
comment on column goflow_tasks.headers is 'Headers as an object of strings.';
comment on column goflow_tasks.due_at is 'When it is due, while it waits for its time.';
comment on column goflow_tasks.created_at is 'When it was pushed: the time in its id.';
comment on column goflow_tasks.started_at is 'When the last attempt started, by the clock of its worker.';
comment on column goflow_tasks.finished_at is 'When it ended.';
