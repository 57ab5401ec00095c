-- Helpers of hot calls without costs of their own. A function that sets search_path pays for it at every call: those that only
-- other functions of ours call run with their callers' path. An SQL function that reads a volatile one is not inlined and starts an
-- executor at every call; plpgsql evaluates it as an expression.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function clock() returns timestamptz language plpgsql stable parallel safe
    as $$ begin return pg_catalog.clock_timestamp(); end $$;

create or replace function check_move() returns trigger language plpgsql as $$
begin
    if not exists (select from nightshift.legal_move
            where noun = tg_argv[0] and from_state = old.state::text and to_state = new.state::text) then
        raise exception 'a % cannot go from % to %', tg_argv[0], old.state, new.state;
    end if;
    return new;
end $$;

alter function lock_lease(bigint, bigint, int, bigint) reset search_path;
alter function record_results(shard, jsonb, text) reset search_path;
alter function fold(shard, int) reset search_path;
alter function end_lease(shard, attempt_outcome, text, text) reset search_path;
alter function note(int, bigint, int, bigint, text, text) reset search_path;
alter function settle_job(bigint) reset search_path;
alter function mark_job(bigint) reset search_path;
alter function calling_worker(bigint) reset search_path;
alter function has_lease(bigint, bigint, int, bigint) reset search_path;
alter function ended_already(bigint, bigint, int, bigint, shard_state[]) reset search_path;
alter function lease_waiting(bigint, job_cursor, int, int) reset search_path;
alter function lease_new(bigint, job_cursor, int, int, double precision) reset search_path;
alter function take_cursor(worker, int, int, boolean) reset search_path;
alter function take_cursor_of_loaded(worker, int, int) reset search_path;
alter function room_of_tenant(int, int) reset search_path;
alter function charge(int, double precision) reset search_path;
alter function claim_from(worker, job_cursor, int, int) reset search_path;
alter function fingerprint_id_of(text) reset search_path;

-- Plans are made once for each connection. All limits are constants and all hot conditions name a partial index, so a plan for any
-- parameter is the plan for every parameter; left to itself the planner makes most of these anew at each call.
alter function claim(bigint, int, int) set plan_cache_mode = force_generic_plan;
alter function progress(bigint, bigint, int, bigint, jsonb, bigint[], text, jsonb) set plan_cache_mode = force_generic_plan;
alter function finish(bigint, bigint, int, bigint, jsonb, text) set plan_cache_mode = force_generic_plan;
alter function release(bigint, bigint, int, bigint, jsonb, text) set plan_cache_mode = force_generic_plan;
alter function fail(bigint, bigint, int, bigint, text, text, jsonb, text) set plan_cache_mode = force_generic_plan;
alter function tick(bigint) set plan_cache_mode = force_generic_plan;

reset search_path;
reset role;
