-- report: what a worker says about several leases, in one call and one transaction. A worker of small shards pays one commit
-- for all of them instead of one for each.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function report(worker bigint, calls jsonb) returns text[] language plpgsql security definer
set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v record;
    v_answers text[] := array_fill(null::text, array[jsonb_array_length(calls)]);
    v_answer text;
begin
    if jsonb_array_length(calls) > 64 then
        perform refuse(format('%s leases in one report, more than 64', jsonb_array_length(calls)));
    end if;
    -- All leased rows before any cursor, jobs in order: the order of README.md holds for the whole transaction.
    perform from shard s join jsonb_to_recordset(calls) as c (job bigint, shard int) on s.job_id = c.job and s.shard_no = c.shard
        where s.state = 'leased' and s.worker_id = report.worker order by s.job_id, s.shard_no for update of s;
    for v in
        select c.*, row_number() over () as place from rows from (jsonb_to_recordset(calls) as (what text, job bigint, shard int, token bigint,
            items jsonb, in_flight jsonb, log text, health jsonb, code text, message text)) c
        order by job, shard
    loop
        v_answer := case v.what
            when 'progress' then progress(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'),
                coalesce((select array_agg(i::bigint) from jsonb_array_elements_text(v.in_flight) i), '{}'), v.log, v.health)
            when 'finish' then case when finish(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
            when 'release' then case when release(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
            when 'fail' then case when fail(worker, v.job, v.shard, v.token, v.code, v.message, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
        end;
        if v_answer is null then
            perform refuse(format('report cannot read what = %L', v.what), 'use progress, finish, release or fail');
        end if;
        v_answers[v.place] := v_answer;
    end loop;
    return v_answers;
end $$;
comment on function report(bigint, jsonb) is
    'Up to 64 calls of progress, finish, release and fail in one transaction: [{"what", "job", "shard", "token", "items", ...}]. An answer each, in order: that of progress, else done, or stop when the lease is lost.';
grant execute on function report(bigint, jsonb) to nightshift_worker;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 16 $$;

reset search_path;
reset role;
