-- What is unfinished: small, hot, updated.

create table gf_meta (
    only_row    boolean primary key default true check (only_row),
    store       uuid not null default gen_random_uuid(),
    broker      uuid,
    claim_owner uuid,
    claim_until timestamptz,
    rebind_from uuid,
    rebind_to   uuid
);
insert into gf_meta default values;

comment on table gf_meta is 'goflow: the one row that says who this store is and which broker it is bound to.';
comment on column gf_meta.broker is 'The broker whose messages the rows of gf_task speak of.';
comment on column gf_meta.claim_owner is 'The in-process broker that has the store to itself until claim_until.';
comment on column gf_meta.rebind_from is 'While rows are handed to a new broker: those with ids in (rebind_from, rebind_to] are still to come.';

-- A null in headers, tags, backoff or start stands for the default: most tasks have only defaults, and the row
-- stays small. Wide columns come last.
create table gf_task (
    id            uuid not null,
    due_at        timestamptz,
    started_at    timestamptz,
    timeout_ms    bigint,
    worker        uuid,
    attempt       int not null,
    attempt_limit int not null,
    dispatch      int not null,
    starts        int not null default 0,
    unserved      int not null default 0,
    max_attempts  int not null,
    waiting       boolean not null,
    state         text not null check (state in ('scheduled', 'queued', 'retrying')),
    namespace     text not null,
    queue         text not null,
    type          text not null,
    content_type  text not null,
    headers       jsonb,
    tags          jsonb,
    backoff       jsonb,
    start         jsonb,
    error         text,
    payload       bytea not null,
    constraint gf_task_pkey primary key (id)
) with (
    -- Every row is soon dead: vacuum must keep up with the rate of tasks, not with the size of the table.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 5000
);

create index gf_task_due on gf_task (due_at) where due_at is not null;

comment on table gf_task is 'goflow: unfinished tasks. Use the view goflow_tasks to read them.';
comment on column gf_task.due_at is 'When an engine must next look at the row; null while the broker is known to have it.';
comment on column gf_task.attempt_limit is 'Failed attempts after which the task has failed; max_attempts is what its push asked for.';
comment on column gf_task.waiting is 'Whether the row waits in the store: no message of its dispatch counts any more.';
comment on column gf_task.starts is 'Deliveries recorded as started since the last outcome.';
comment on column gf_task.unserved is 'Times in a row that a worker without a handler of its type gave it back.';

-- Failed attempts of unfinished tasks; they move into gf_history with their task.
create table gf_attempt (
    id          uuid not null,
    attempt     int not null,
    worker      uuid,
    started_at  timestamptz,
    finished_at timestamptz not null,
    error       text not null,
    constraint gf_attempt_pkey primary key (id, attempt)
);

comment on table gf_attempt is 'goflow: failed attempts of unfinished tasks.';

create table gf_idempotency (
    namespace  text not null,
    key        text not null,
    task       uuid not null,
    body_hash  bigint not null,
    expires_at timestamptz not null,
    constraint gf_idempotency_pkey primary key (namespace, key)
);

create index gf_idempotency_expires on gf_idempotency (expires_at);

comment on table gf_idempotency is 'goflow: idempotency keys of pushes, and the task each one stands for.';
