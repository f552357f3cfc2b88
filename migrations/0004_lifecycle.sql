-- Priorities, deadlines, unique keys, runs of another task, paused queues.

-- What few pushes ask for is in options: the deadline as it was asked for, the unique key, the retention, the
-- heartbeat timeout. Null stands for the defaults, as everywhere.
alter table gf_task
    add column priority    smallint,
    add column deadline_at timestamptz,
    add column retry_of    uuid,
    add column options     jsonb;
alter table gf_history
    add column priority    smallint,
    add column deadline_at timestamptz,
    add column retry_of    uuid,
    add column options     jsonb;

comment on column gf_task.deadline_at is 'When it ends as expired; due_at never lies beyond it.';
comment on column gf_task.retry_of is 'The task of which it is another run.';

-- While nobody knows what workers hold, engines look for these only. Neither costs a plain task anything.
create index gf_task_waiting on gf_task (due_at) where waiting;
create index gf_task_deadline on gf_task (deadline_at) where deadline_at is not null;

-- Failures are few among what is finished, and people ask for the latest of them.
create index gf_history_dead on gf_history (finished_at) where state in ('failed', 'crashed', 'expired');

create table gf_unique (
    namespace  text not null,
    key        text not null,
    task       uuid not null,
    expires_at timestamptz,
    constraint gf_unique_pkey primary key (namespace, key)
);

create index gf_unique_task on gf_unique (task) where expires_at is null;
create index gf_unique_expires on gf_unique (expires_at) where expires_at is not null;

comment on table gf_unique is 'goflow: unique keys that are taken, and the task that has each.';
comment on column gf_unique.expires_at is 'Until when it is taken; null for as long as its task is unfinished.';

create table gf_paused (
    queue text not null,
    since timestamptz not null default now(),
    constraint gf_paused_pkey primary key (queue)
);

comment on table gf_paused is 'goflow: queues of which no task is to be started.';

create or replace view goflow_tasks as
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
    null::timestamptz as finished_at,
    coalesce(priority, 1)::smallint as priority,
    deadline_at,
    retry_of,
    options->'unique'->>'key' as unique_key
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
    finished_at,
    coalesce(priority, 1)::smallint,
    deadline_at,
    retry_of,
    options->'unique'->>'key'
from gf_history;

comment on column goflow_tasks.priority is 'How urgent it is among the tasks of its queue: 0 to 3, where 3 is the most urgent.';
comment on column goflow_tasks.deadline_at is 'When it ends, or ended, as expired.';
comment on column goflow_tasks.retry_of is 'The task of which it is another run.';
comment on column goflow_tasks.unique_key is 'The key that keeps a second one out.';
