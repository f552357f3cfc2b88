-- Whether one of these has ended, none of them before `since`; `first` and `last` are the least and the greatest.
create function gf_any_ended(ids uuid[], first uuid, last uuid, since timestamptz) returns boolean
    language plpgsql
as $$
declare
    -- One look at a range is cheaper than one for each id, unless it finds many others.
    most  int := 4 * cardinality(ids);
    -- Nothing has ended later than now, save for what clocks differ by: partitions for times to come are left out. Not the
    -- start of the transaction: it may be the caller's, and old.
    upto  timestamptz := statement_timestamp() + interval '1 hour';
    ended uuid[];
begin
    ended := array(
        select h.id from gf_history h
        where h.id between first and last and h.finished_at >= since and h.finished_at < upto
        limit most
    );
    if cardinality(ended) >= most then
        ended := array(
            select h.id from gf_history h
            where h.id = any(ids) and h.finished_at >= since and h.finished_at < upto
        );
    end if;
    if cardinality(ended) = 0 then
        return false;
    end if;
    -- Not `&&`, which compares each with each.
    return exists (select unnest(ended) intersect select unnest(ids));
end $$;

-- gf_accept as it was (0007), but that what has ended is asked for in one place.
create or replace function gf_accept(
    ids uuid[], namespaces text[], queues text[], types text[], payloads bytea[], content_types text[], attempts int[],
    priorities smallint[], sweep bigint, first uuid, last uuid, since timestamptz
) returns boolean language plpgsql as $$
begin
    insert into gf_task (id, namespace, queue, type, payload, content_type, max_attempts, priority, attempt,
        attempt_limit, dispatch, waiting, state, due_at)
    select n.*, 1, n.max_attempts, 1 - (sweep = 0)::int, sweep = 0, 'queued', now() + sweep * interval '1 microsecond'
    from unnest(ids, namespaces, queues, types, payloads, content_types, attempts, priorities)
        as n (id, namespace, queue, type, payload, content_type, max_attempts, priority);

    -- A task that was accepted, ran and ended is not accepted again when its push is repeated. This comes last: one
    -- that was about to end had a row, which the insert waited for.
    if gf_any_ended(ids, first, last, since) then
        delete from gf_task t where t.id = any(ids);
        return false;
    end if;
    return true;
end $$;

-- gf_succeed_rowless as it was (0009), but for the same.
-- Puts tasks into the history, in one round trip, that never had a row, succeeded at their first attempt and ask for nothing
-- unusual. Does nothing and gives false if one of them has a row after all, or has ended: no error, for the caller goes on.
-- `first` and `last` are the least and the greatest of the ids, and nothing of them has ended before `since`.
create or replace function gf_succeed_rowless(
    ids uuid[], namespaces text[], queues text[], types text[], payloads bytea[], content_types text[], attempts int[],
    priorities smallint[], dispatches int[], results bytea[], result_content_types text[], workers uuid[],
    starts timestamptz[], ends timestamptz[], days smallint, first uuid, last uuid, since timestamptz
) returns boolean language plpgsql as $$
declare
    most int := 4 * cardinality(ids);
    live uuid[];
begin
    -- Whoever makes a row or a record from an outcome takes this lock before; what is asked now sees what they did. Who has a
    -- row end does not: rows first, then what has ended, so that none is missed on its way.
    perform count(pg_advisory_xact_lock(hashtextextended(n.id::text, 0)))
    from (select u.id from unnest(ids) as u (id) order by u.id) n;

    live := array(select t.id from gf_task t where t.id between first and last limit most);
    if cardinality(live) >= most then
        live := array(select t.id from gf_task t where t.id = any(ids));
    end if;
    if cardinality(live) > 0 then
        if exists (select unnest(live) intersect select unnest(ids)) then
            return false;
        end if;
    end if;
    if gf_any_ended(ids, first, last, since) then
        return false;
    end if;

    insert into gf_history (id, namespace, queue, type, payload, content_type, max_attempts, priority, attempt,
        attempt_limit, dispatch, state, result, result_content_type, worker, crashes, started_at, finished_at, class)
    select n.id, n.namespace, n.queue, n.type, n.payload, n.content_type, n.max_attempts, n.priority, 1, n.max_attempts,
        n.dispatch, 'succeeded', n.result, n.result_content_type, n.worker, 0, n.started_at,
        least(greatest(n.ended, now() - interval '1 day'), now()), days
    from unnest(ids, namespaces, queues, types, payloads, content_types, attempts, priorities, dispatches, results,
            result_content_types, workers, starts, ends)
        as n (id, namespace, queue, type, payload, content_type, max_attempts, priority, dispatch, result,
            result_content_type, worker, started_at, ended);
    return true;
end $$;
