//! Parts that several statements share, as macros, because `concat!` takes only literals.

macro_rules! whole_live {
    () => {
        concat!(
            "select ",
            live_record!(),
            // A function that is called is planned each time.
            ", payload, null::bytea as result, case when attempt > 1 then gf_attempts(id) end as attempts, \
         false as payload_omitted, false as result_omitted from gf_task where id = any($1)"
        )
    };
}
macro_rules! whole_history {
    () => {
        concat!(
            "select ",
            history_record!(),
            ", payload, result, attempts, false as payload_omitted, \
         false as result_omitted from gf_history where id = any($1) and ",
            ended_since!("$2")
        )
    };
}

/// Of finished tasks those that ended since `$since`. None has ended later than now, save for what clocks differ by;
/// partitions for times to come need not be looked into.
macro_rules! ended_since {
    ($since:literal) => {
        concat!(
            "finished_at >= ",
            $since,
            " and finished_at < statement_timestamp() + interval '1 hour'"
        )
    };
}

/// Where the row of each `f` lies. It is locked since before this statement, so that this version of it is the one.
macro_rules! locked_row_of_f {
    () => {
        "cross join lateral (select t.ctid as at from gf_task t where t.id = f.id offset 0) found"
    };
}

/// Where the row of each key `k` lies, in a table of keys. It is locked too.
macro_rules! locked_row_of_k {
    ($table:literal) => {
        concat!(
            "cross join lateral (
                select t.ctid as at from ",
            $table,
            " t where t.namespace = k.namespace and t.key = k.key offset 0
            ) found"
        )
    };
}

/// Accepts tasks that have these columns and values, and are to be swept after `$sweep`; a source gives the values,
/// whether one has to wait, for how long and until when.
macro_rules! insert_tasks {
    ($columns:expr, $values:expr, $sweep:literal, $source:expr) => {
        concat!(
            "insert into gf_task (",
            $columns,
            ", attempt, attempt_limit, dispatch, waiting, state, due_at, deadline_at)
            select ",
            $values,
            ", 1, max_attempts, 1 - (later or ",
            $sweep,
            " = 0)::int, later or ",
            $sweep,
            " = 0,
                case when later then 'scheduled' else 'queued' end,
                least(now() + case when later then wait else ",
            $sweep,
            " end * interval '1 microsecond', deadline_at),
                deadline_at
            from (",
            $source,
            ") t"
        )
    };
}

/// What becomes of rows that are `due`: one row for each that is to be dispatched, or one if there is none; the
/// first of them tells of all.
macro_rules! claimed {
    () => {
        concat!(
            "claimed as (
            update gf_task t
            set state = 'queued', dispatch = t.dispatch + t.waiting::int, waiting = false,
                due_at = least(now() + interval '5 s', t.deadline_at)
            where t.id = any(array(select id from due where not held and not late))
            returning ",
            spec_of_t!(),
            ", t.attempt, t.dispatch
        )
        select c.*, case when row_number() over () = 1 then d.looked_at end as looked_at,
            case when row_number() over () = 1 then d.late end as late
        from (select count(*) as looked_at, array_agg(id) filter (where late) as late from due) d
        left join claimed c on true"
        )
    };
}
