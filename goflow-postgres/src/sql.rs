//! Every statement that runs, in one place; a test prepares each against the schema.
//!
//! Statements that change several rows lock them in the order of their ids first, so that no two of them can
//! wait for each other. They look each row up by its id, whatever the planner takes the table for: a join that it may
//! turn around reads all of a table that it takes for empty, once for each id.

#[macro_use]
mod columns;
#[macro_use]
mod parts;
mod list;

#[cfg(test)]
pub(crate) use list::LISTS;
pub(crate) use list::{ListShape, States, Tables, list};

/// What a connection for changes and for single tasks sets. Plans must not depend on statistics: a table goes from
/// empty to a million rows in seconds, and a cached plan that reads all of it would stay for a minute. One plan for all
/// arguments is good enough then, and to plan for hundreds of them is dear.
pub(crate) const KEYED_SESSION: &str = "
    set statement_timeout = '4500ms'; set lock_timeout = '3s'; set idle_in_transaction_session_timeout = '5s';
    set tcp_user_timeout = '10s'; set jit = off; set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_memoize = off;
    set enable_bitmapscan = off";

/// What a connection for queries sets. Lists are walks of an index in its order: never sorted, whatever the planner takes
/// for few. To plan for a dozen partitions takes longer than a page, so plans are kept.
pub(crate) const QUERY_SESSION: &str = "
    set statement_timeout = '4500ms'; set lock_timeout = '3s'; set idle_in_transaction_session_timeout = '5s';
    set tcp_user_timeout = '10s'; set jit = off; set random_page_cost = 1.1; set plan_cache_mode = force_generic_plan;
    set enable_sort = off; set enable_incremental_sort = off";

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $($text:expr),+ ;)+) => {
        $($(#[$doc])* pub(crate) const $name: &str = concat!($($text),+);)+
        /// All of them, with their names.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

statements! {
    /// Whether the server answers.
    PING = "select 1";
    /// The id of the store.
    STORE_ID = "select store from gf_meta";
    /// The newest migration that was applied.
    SCHEMA_VERSION = "select max(version) from _sqlx_migrations where success";

    /// Remembers idempotency keys that are new or forgotten; gives those. The others are locked.
    INSERT_KEYS = "
        insert into gf_idempotency (namespace, key, task, body_hash, expires_at)
        select k.namespace, k.key, k.task, k.body_hash, now() + interval '24 hours'
        from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as k (namespace, key, task, body_hash)
        on conflict (namespace, key) do update
        set task = excluded.task, body_hash = excluded.body_hash, expires_at = excluded.expires_at
        where gf_idempotency.expires_at <= now()
        returning namespace, key";
    /// What keys stand for.
    FIND_KEYS = "
        select i.namespace, i.key, i.task, i.body_hash
        from unnest($1::text[], $2::text[]) as k (namespace, key)
        cross join lateral (
            select i.* from gf_idempotency i where i.namespace = k.namespace and i.key = k.key offset 0
        ) i
        where i.expires_at > now()";
    /// Forgets keys.
    EXPIRE_KEYS = "
        with old as materialized (
            select ctid from gf_idempotency where expires_at <= now()
            order by expires_at limit 10000 for update skip locked
        )
        delete from gf_idempotency where ctid = any(array(select ctid from old))";

    /// What keys stand for after all.
    MOVE_KEYS = "
        update gf_idempotency i set task = k.task
        from (
            select k.task, found.at from unnest($1::text[], $2::text[], $3::uuid[]) as k (namespace, key, task)
            ", locked_row_of_k!("gf_idempotency"), "
        ) k
        where i.ctid = k.at";
    /// Forgets keys of requests that were refused.
    DROP_KEYS = "
        delete from gf_idempotency where ctid = any(array(
            select found.at from unnest($1::text[], $2::text[]) as k (namespace, key)
            ", locked_row_of_k!("gf_idempotency"), "
        ))";

    /// Takes unique keys that are free; gives those. The others are locked.
    TAKE_UNIQUE = "
        insert into gf_unique (namespace, key, task, expires_at)
        select k.namespace, k.key, k.task, now() + k.period_us * interval '1 microsecond'
        from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as k (namespace, key, task, period_us)
        on conflict (namespace, key) do update
        set task = excluded.task, expires_at = excluded.expires_at
        where gf_unique.expires_at <= now()
        returning namespace, key";
    /// Who has keys. One whose task is gone without having freed it is free all the same.
    FIND_UNIQUE = "
        select u.namespace, u.key, u.task
        from unnest($1::text[], $2::text[]) as k (namespace, key)
        cross join lateral (
            select u.* from gf_unique u where u.namespace = k.namespace and u.key = k.key offset 0
        ) u
        where u.expires_at > now()
            or u.expires_at is null and exists (select from gf_task t where t.id = u.task offset 0)";
    /// Gives keys that are locked to other tasks.
    MOVE_UNIQUE = "
        update gf_unique u set task = k.task, expires_at = now() + k.period_us * interval '1 microsecond'
        from (
            select k.*, found.at
            from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) as k (namespace, key, task, period_us)
            ", locked_row_of_k!("gf_unique"), "
        ) k
        where u.ctid = k.at";
    /// Gives keys back that are locked.
    DROP_UNIQUE = "
        delete from gf_unique where ctid = any(array(
            select found.at from unnest($1::text[], $2::text[]) as k (namespace, key)
            ", locked_row_of_k!("gf_unique"), "
        ))";
    /// Frees the keys of tasks that end, in the order in which pushes take them; it is not that of an index, which might
    /// be read as a whole for it.
    FREE_UNIQUE = "
        with freed as materialized (
            select task from gf_unique where task = any($1) and expires_at is null
            order by namespace collate \"C\", key collate \"C\" for update
        )
        delete from gf_unique where task = any(array(select task from freed)) and expires_at is null";
    /// Forgets keys whose time is over.
    EXPIRE_UNIQUE = "
        with old as materialized (
            select ctid from gf_unique where expires_at <= now()
            order by expires_at limit 10000 for update skip locked
        )
        delete from gf_unique where ctid = any(array(select ctid from old))";

    /// Which of these ended since.
    FIND_FINISHED = "select id from gf_history where id = any($1) and ", ended_since!("$2");
    /// Some of those that ended since and whose ids lie between two.
    FINISHED_BETWEEN =
        "select id from gf_history where id between $1 and $2 and ", ended_since!("$3"), " limit $4";
    /// Accepts tasks: each waits for `$16` or until `$17`, expires after `$18` or at `$19`, and if it may start at
    /// once it is due for a sweep after `$20`; if that is zero, it waits to be claimed. One whose deadline has passed
    /// already only waits for its end.
    INSERT_TASKS = insert_tasks!(spec!(), spec_values!(), "$20", concat!("
            select t.*, wait > 0 or coalesce(deadline_at <= now(), false) as later from (
                select t.*, greatest(coalesce(wait_us, extract(epoch from run_at - now()) * 1000000, 0), 0) as wait,
                    coalesce(now() + expires_us * interval '1 microsecond', expires_at) as deadline_at
                from unnest(", spec_arrays!(), ", $16::bigint[], $17::timestamptz[], $18::bigint[], $19::timestamptz[])
                    as t (", spec!(), ", wait_us, run_at, expires_us, expires_at)
            ) t")), "
        returning id, not waiting as dispatch_now";
    /// Accepts tasks that ask for nothing unusual; they are due for a sweep after `$9`. Accepts none if one of
    /// them, whose ids lie between `$10` and `$11`, has ended since `$12`.
    ACCEPT_PLAIN = "select gf_accept(", plain_arrays!(), ", $9, $10, $11, $12)";
    /// Takes back what was accepted in the same transaction.
    DELETE_TASKS = "delete from gf_task where id = any($1)";
    /// How many tasks are unfinished, up to a number.
    COUNT_LIVE = "select count(*) from (select from gf_task limit $1) t";

    /// Keeps others from making a row of these ids.
    LOCK_IDS = "
        select count(pg_advisory_xact_lock(hashtextextended(id::text, 0)))
        from (select id from unnest($1::uuid[]) as t (id) order by id) t";
    /// Locks rows and gives what decides.
    LOCK_ROWS = "
        select id, state, attempt, attempt_limit, dispatch, waiting, starts, unserved, backoff, queue, type, options,
            coalesce(deadline_at <= now(), false) as late, worker, started_at
        from gf_task where id = any($1) order by id for update";
    /// Moves rows into the history.
    FINISH = "
        with d as (
            delete from gf_task t
            using (
                select f.*, found.at
                from unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::uuid[], $7::int[],
                        $8::timestamptz[], $9::timestamptz[], $10::smallint[], $11::bool[], $12::bool[], $13::int[])
                    as f (id, state, result, result_content_type, error, worker, crashes, started_at, ended, class,
                        keep_error, failed_before, attempt)
                ", locked_row_of_f!(), "
            ) f
            where t.ctid = f.at
            returning ", spec_of_t!(), ", t.deadline_at, f.attempt, t.attempt_limit, t.dispatch, f.state, f.result,
                f.result_content_type, case when f.keep_error then t.error else f.error end as error,
                coalesce(f.worker, t.worker) as worker, f.crashes,
                coalesce(f.started_at, t.started_at) as started_at, f.ended, f.class, f.failed_before
        )
        insert into gf_history (", spec!(), ", deadline_at, attempt, attempt_limit, dispatch, state, result,
            result_content_type, error, worker, crashes, started_at, finished_at, class, attempts)
        select ", spec!(), ", deadline_at, attempt, attempt_limit, dispatch, state, result, result_content_type, error, worker,
            crashes, started_at, least(greatest(coalesce(ended, now()), now() - interval '1 day'), now()), class,
            case when failed_before then gf_attempts(id) end
        from d";
    /// Moves rows into the history whose first attempt succeeded without a crash, and that have no unusual options;
    /// gives them. What is asked of a row is asked twice: once to find it, and once of the version that is deleted, which
    /// is another one if somebody changes it meanwhile.
    SUCCEED = "
        with d as (
            delete from gf_task t
            using (
                select f.*, found.at
                from unnest($1::uuid[], $2::bytea[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[])
                    as f (id, result, result_content_type, worker, started_at, ended)
                cross join lateral (
                    select t.ctid as at from gf_task t
                    where t.id = f.id and t.attempt = 1 and t.starts = 0 and t.options is null offset 0
                ) found
            ) f
            where t.ctid = f.at and t.attempt = 1 and t.starts = 0 and t.options is null
            returning ", spec_of_t!(), ", t.attempt_limit, t.dispatch, f.result, f.result_content_type, f.worker,
                coalesce(f.started_at, t.started_at) as started_at, f.ended
        )
        insert into gf_history (", spec!(), ", attempt, attempt_limit, dispatch, state, result, result_content_type,
            worker, crashes, started_at, finished_at, class)
        select ", spec!(), ", 1, attempt_limit, dispatch, 'succeeded', result, result_content_type, worker, 0, started_at,
            least(greatest(ended, now() - interval '1 day'), now()), $7
        from d
        returning id";
    /// Forgets the failed attempts of tasks that took theirs into the history.
    DELETE_ATTEMPTS = "delete from gf_attempt where id = any($1)";
    /// Puts tasks into the history that never had a row, succeeded at their first attempt and ask for nothing unusual. None
    /// of them, and false, if one has a row, or has ended: their ids lie between `$16` and `$17`, and none ended before `$18`.
    SUCCEED_ROWLESS = "select gf_succeed_rowless(", plain_arrays!(), ", $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    /// Puts tasks into the history that never had a row.
    FINISH_ROWLESS = "
        insert into gf_history (", spec!(), ", attempt, attempt_limit, dispatch, state, result,
            result_content_type, error, worker, crashes, started_at, finished_at, class, attempts)
        select ", spec_values!(), ", attempt, max_attempts, dispatch, state, result, result_content_type, error,
            worker, crashes, started_at, least(greatest(coalesce(ended, now()), now() - interval '1 day'), now()), class,
            attempts::jsonb
        from unnest(", spec_arrays!(), ", $16::int[], $17::int[], $18::text[], $19::bytea[], $20::text[],
                $21::text[], $22::uuid[], $23::int[], $24::timestamptz[], $25::timestamptz[], $26::smallint[],
                $27::text[])
            as f (", spec!(), ", attempt, dispatch, state, result, result_content_type, error, worker, crashes,
                started_at, ended, class, attempts)";
    /// Makes the rows of tasks that had none and have not ended.
    INSERT_ROWLESS = "
        insert into gf_task (", spec!(), ", attempt, attempt_limit, dispatch, state, waiting, starts, unserved, error,
            worker, started_at, due_at)
        select ", spec_values!(), ", attempt, max_attempts, dispatch, state, waiting, starts, unserved, error,
            worker, started_at, now() + wait_us * interval '1 microsecond'
        from unnest(", spec_arrays!(), ", $16::int[], $17::int[], $18::text[], $19::bool[], $20::int[], $21::int[],
                $22::text[], $23::uuid[], $24::timestamptz[], $25::bigint[])
            as f (", spec!(), ", attempt, dispatch, state, waiting, starts, unserved, error, worker, started_at,
                wait_us)";
    /// Lets rows wait.
    WAIT = "
        update gf_task t
        set state = f.state, attempt = f.attempt, waiting = true, starts = 0, unserved = f.unserved,
            due_at = least(now() + f.wait_us * interval '1 microsecond', t.deadline_at), error = coalesce(f.error, t.error),
            worker = f.worker, started_at = coalesce(f.started_at, t.started_at)
        from (
            select f.*, found.at
            from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::bigint[], $6::text[], $7::uuid[],
                    $8::timestamptz[])
                as f (id, state, attempt, unserved, wait_us, error, worker, started_at)
            ", locked_row_of_f!(), "
        ) f
        where t.ctid = f.at";
    /// Notes that deliveries run.
    STARTED = "
        update gf_task t
        set starts = f.starts, worker = f.worker, started_at = coalesce(f.started_at, t.started_at)
        from (
            select f.*, found.at
            from unnest($1::uuid[], $2::int[], $3::uuid[], $4::timestamptz[]) as f (id, starts, worker, started_at)
            ", locked_row_of_f!(), "
        ) f
        where t.ctid = f.at";
    /// Keeps failed attempts. One that is there already is the same one.
    INSERT_ATTEMPTS = "
        insert into gf_attempt (id, attempt, error, worker, started_at, finished_at)
        select * from unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::timestamptz[], $6::timestamptz[])
        on conflict do nothing";

    /// Claims what is due; what workers hold (`$2`) is due again later. What is late is named and left as it is.
    CLAIM = "
        with due as materialized (
            select id, coalesce(deadline_at <= now(), false) as late,
                not waiting and id in (select h.id from unnest($2::uuid[]) as h (id)) as held
            from gf_task where due_at <= now() order by due_at limit $1 for update skip locked
        ), held as (
            update gf_task t set due_at = least(now() + interval '10 s', t.deadline_at)
            where t.id = any(array(select id from due where held and not late))
        ), ", claimed!();
    /// The same of those rows for which it does not matter what workers hold.
    CLAIM_WAITING = "
        with waiting as materialized (
            select id, coalesce(deadline_at <= now(), false) as late from gf_task
            where waiting and due_at <= now() order by due_at limit $1 for update skip locked
        ), late as materialized (
            select id from gf_task where not waiting and deadline_at <= now()
            order by deadline_at limit greatest($1 - (select count(*) from waiting), 0) for update skip locked
        ), due as materialized (
            select id, late, false as held from waiting union all select id, true, false from late
        ), ", claimed!();
    /// Names those whose deadline passed some time ago and that nobody else is at, the oldest first.
    CLAIM_LATE = "
        select null::uuid as id, count(*) as looked_at, array_agg(id) as late
        from (
            select id from gf_task where deadline_at <= now() - interval '3 s'
            order by deadline_at limit $1 for update skip locked
        ) late";
    /// Nothing more to do, before their deadline, for rows whose dispatch the broker has: in the order of the ids. What is
    /// asked of a row is asked twice, as above.
    CONFIRM = "
        with bound as materialized (
            select from gf_meta where coalesce(broker, $3) = $3 for share
        ), noted as (
            update gf_task t set due_at = t.deadline_at
            from (
                select c.dispatch, found.at from unnest($1::uuid[], $2::int[]) as c (id, dispatch)
                cross join lateral (
                    select t.ctid as at from gf_task t
                    where t.id = c.id and t.dispatch = c.dispatch and not t.waiting
                        and t.due_at is distinct from t.deadline_at
                    offset 0
                ) found
                where exists (select from bound)
            ) c
            where t.ctid = c.at and t.dispatch = c.dispatch and not t.waiting
        )
        select exists (select from bound)";
    /// Makes unserved rows due. None of them waits longer than 72 s, which keeps the scan of the index short. `is true`
    /// hides from the planner that there is an index of what waits: with `waiting` it may read all of that instead.
    WAKE_UNSERVED = "
        with unserved as materialized (
            select id from gf_task
            where due_at <= now() + interval '75 s' and waiting and unserved > 0 and queue = $1 and type = any($2)
        ), locked as materialized (
            select id from gf_task
            where id = any(array(select id from unserved)) and (waiting and unserved > 0) is true
            order by id for update
        )
        update gf_task t set due_at = least(t.due_at, now()) where t.id = any(array(select id from locked))";

    /// Moves a finished task back among the unfinished.
    REOPEN = "
        with h as (
            delete from gf_history
            where id = $1 and ", ended_since!("$2"), "
            and state in ('failed', 'crashed', 'expired', 'cancelled')
            returning *
        ), a as (
            insert into gf_attempt (id, attempt, error, worker, started_at, finished_at)
            select h.id, a.attempt, a.error, a.worker, a.started_at, a.finished_at
            from h, jsonb_to_recordset(h.attempts)
                as a (attempt int, error text, worker uuid, started_at timestamptz, finished_at timestamptz)
        )
        insert into gf_task (", spec!(), ", attempt, attempt_limit, dispatch, waiting, state, due_at, error, worker,
            started_at, deadline_at)
        select ", spec_but_options!(), ", case when deadline_at <= now() then nullif(options - 'deadline', '{}')
                else options end,
            attempt + 1, attempt + max_attempts, dispatch, true, 'queued', now(), error, worker, started_at,
            case when deadline_at > now() then deadline_at end
        from h";
    /// The key of a finished task that it had for as long as it was unfinished.
    LOST_UNIQUE = "
        select namespace, options->'unique'->>'key' from gf_history
        where id = $1 and ", ended_since!("$2"), "
            and state in ('failed', 'crashed', 'expired', 'cancelled')
            and options->'unique'->>'key' is not null and options->'unique'->'period' is null";

    /// Tasks, by one look at everything.
    GET = whole_live!(), " union all ", whole_history!();
    /// Unfinished tasks by queue; ids are compared as text because there is no `min(uuid)`.
    COUNT_QUEUES = "
        select queue, coalesce(scheduled, 0) as scheduled, coalesce(queued, 0) as queued,
            coalesce(retrying, 0) as retrying, oldest, p.since is not null as paused, now() as at
        from (
            select queue, count(*) filter (where state = 'scheduled') as scheduled,
                count(*) filter (where state = 'queued') as queued,
                count(*) filter (where state = 'retrying') as retrying,
                min(id::text collate \"C\") filter (where state = 'queued') as oldest
            from gf_task group by queue
        ) c full join gf_paused p using (queue) order by queue";
    /// Tasks that did not succeed, grouped: of the latest `$3`.
    DEAD = "
        select type, state, error, count(*) as tasks, max(id::text collate \"C\") as newest, max(finished_at) as last
        from (
            select type, state, left(coalesce(error, ''), 200) as error, id, finished_at from gf_history
            where state in ('failed', 'crashed', 'expired') and finished_at >= $1
            order by finished_at desc limit $3
        ) t group by type, state, error order by tasks desc, newest desc limit $2";

    /// Pauses a queue.
    PAUSE = "insert into gf_paused (queue) values ($1) on conflict do nothing";
    /// Has it go on.
    RESUME = "delete from gf_paused where queue = $1";
    /// The queues that are paused.
    PAUSED = "select queue from gf_paused order by queue";
    /// Those that wait for a worker of their type.
    COUNT_UNSERVED = "
        select queue, type, count(*) as tasks from gf_task
        where due_at <= now() + interval '75 s' and waiting and unserved > 0
        group by queue, type order by queue, type";

    /// Who the store is bound to; others wait.
    LOCK_META = "
        select broker, claim_owner, claim_until > now() as claimed, rebind_from, rebind_to from gf_meta for update";
    /// Binds the store, and has every present row handed over if `$3`.
    BIND = "
        update gf_meta set broker = $1, claim_owner = $2::uuid, claim_until = case when $2 is not null then now() + interval '8 s' end,
            rebind_from = case when $3 then '00000000-0000-0000-0000-000000000000' else rebind_from end,
            rebind_to = case when $3 then (select id from gf_task order by id desc limit 1) else rebind_to end";
    /// Makes the next rows due that another broker had; gives the last one looked at.
    REBIND_ROWS = "
        with todo as materialized (
            select id from gf_task where id > $1 and id <= $2 order by id limit $3 for update
        ), due as (
            update gf_task t set due_at = least(now(), t.deadline_at)
            where t.id = any(array(select id from todo)) and not t.waiting
        )
        select id from todo order by id desc limit 1";
    /// How far that is.
    REBIND_FROM = "update gf_meta set rebind_from = $1";
    /// Gives a claim back.
    RELEASE_CLAIM = "update gf_meta set claim_owner = null, claim_until = null where claim_owner = $1";

    /// Locks of maintenance give way to the work.
    BRIEF_LOCKS = "select set_config('lock_timeout', '500ms', true)";
    /// The classes that hold what no partition was made for.
    STRAYED = "
        select 1 where exists (select from gf_history_1d_strays)
        union all select 7 where exists (select from gf_history_7d_strays)
        union all select 30 where exists (select from gf_history_30d_strays)
        union all select 365 where exists (select from gf_history_365d_strays)";
    /// Makes partitions ahead.
    MAKE_PARTITIONS = "select gf_make_partitions($1)";
    /// Drops those that are past their days.
    DROP_PARTITIONS = "select gf_drop_partitions()";
}
