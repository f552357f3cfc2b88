-- Puts tasks into the history, in one round trip, that never had a row, succeeded at their first attempt and ask for nothing
-- unusual. Does nothing and gives false if one of them has a row after all, or has ended: no error, for the caller goes on.
-- `first` and `last` are the least and the greatest of the ids, and nothing of them has ended before `since`.
create function gf_succeed_rowless(
    ids uuid[], namespaces text[], queues text[], types text[], payloads bytea[], content_types text[], attempts int[],
    priorities smallint[], dispatches int[], results bytea[], result_content_types text[], workers uuid[],
    starts timestamptz[], ends timestamptz[], days smallint, first uuid, last uuid, since timestamptz
) returns boolean language plpgsql as $$
declare
    -- One look at a range is cheaper than one for each id, unless it finds many others.
    most  int := 4 * cardinality(ids);
    -- Nothing has ended later than now, save for what clocks differ by.
    upto  timestamptz := statement_timestamp() + interval '1 hour';
    known uuid[];
    ended uuid[];
begin
    -- Whoever makes a row or a record from an outcome takes this lock before; what is asked now sees what they did. Who has a
    -- row end does not: rows first, then what has ended, so that none is missed on its way.
    perform count(pg_advisory_xact_lock(hashtextextended(n.id::text, 0)))
    from (select u.id from unnest(ids) as u (id) order by u.id) n;

    known := array(select t.id from gf_task t where t.id between first and last limit most);
    if cardinality(known) >= most then
        known := array(select t.id from gf_task t where t.id = any(ids));
    end if;
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
    known := known || ended;
    if cardinality(known) > 0 then
        -- Not `&&`, which compares each with each.
        if exists (select unnest(known) intersect select unnest(ids)) then
            return false;
        end if;
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
