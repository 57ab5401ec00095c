-- What workers call, first half: register, claim, and reading what a lease allows.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function register(protocol int, schema int, name text, models jsonb, info jsonb) returns bigint
language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_ours record;
    v_id bigint;
begin
    select * into v_ours from versions();
    if register.protocol < v_ours.protocol_oldest then
        perform refuse(format('this worker is too old: it speaks protocol %s, the database needs %s or newer', register.protocol, v_ours.protocol_oldest),
            'install the version of nightshift that the scheduler runs', code => 'NSVER');
    elsif register.protocol > v_ours.protocol or register.schema > v_ours.schema then
        perform refuse(format('the database is too old for this worker: it has schema %s and protocol %s, the worker needs schema %s and protocol %s',
            v_ours.schema, v_ours.protocol, register.schema, register.protocol),
            'run `nightshift migrate` with the worker''s version', code => 'NSVER');
    end if;
    if jsonb_typeof(register.models) is distinct from 'object' or register.models = '{}' then
        perform refuse('a worker must name at least one model', 'models: {"name/weights/kv_cache": "fingerprint"}');
    end if;
    insert into fingerprint (sha256) select distinct m.value from jsonb_each_text(register.models) m
        where not exists (select from fingerprint f where f.sha256 = m.value) on conflict do nothing;
    insert into worker (login, name, protocol, schema, models, info)
        values (session_user, register.name, register.protocol, register.schema, register.models, coalesce(register.info, '{}'))
        returning id into v_id;
    return v_id;
end $$;
comment on function register(int, int, text, jsonb, jsonb) is 'Announces a worker process and compares versions. models: {"name/weights/kv_cache": "fingerprint"}.';

-- `s3://a/b` allows s3://a/b itself and everything below s3://a/b/, not s3://a/bc.
create function is_allowed(uri text, prefixes text[]) returns boolean language plpgsql immutable parallel safe as $$
begin
    return uri !~ '(^|/)\.\.(/|$)' and exists (
        select from unnest(prefixes) p
        where starts_with(uri, p) and (right(p, 1) = '/' or length(uri) = length(p) or substr(uri, length(p) + 1, 1) = '/'));
end $$;
comment on function is_allowed(text, text[]) is 'Whether a URI lies under one of these prefixes.';

create function prefix_refusal(for_tenant int, wanted text, inputs text[]) returns text language plpgsql stable
set search_path = nightshift, pg_temp as $$
declare
    t tenant;
    v_input text;
begin
    select * into t from tenant where id = for_tenant;
    if not is_allowed(wanted, t.dest_prefixes) then
        return format('output.dest: tenant %s may not write to %s; %s', t.name, wanted, case when t.dest_prefixes = '{}'
            then 'no destination is allowed yet' else 'allowed: ' || array_to_string(t.dest_prefixes, ', ') end);
    end if;
    foreach v_input in array coalesce(inputs, '{}') loop
        if not is_allowed(v_input, t.input_prefixes) then
            return format('input: tenant %s may not read %s; %s', t.name, v_input, case when t.input_prefixes = '{}'
                then 'no input location is allowed yet' else 'allowed: ' || array_to_string(t.input_prefixes, ', ') end);
        end if;
    end loop;
    return null;
end $$;
comment on function prefix_refusal(int, text, text[]) is 'null, or why a job may not touch its locations.';

create function calling_worker(wanted bigint) returns worker language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_worker worker;
    v_now timestamptz := clock();
begin
    select * into v_worker from worker where id = wanted and login = session_user;
    if not found then
        perform refuse('the database does not know this worker', 'register again', code => 'NSWRK');
    end if;
    if v_worker.seen_at < v_now - interval '1 second' then
        update worker set seen_at = v_now where id = wanted;
    end if;
    return v_worker;
end $$;
comment on function calling_worker(bigint) is 'The worker, if session_user registered it; notes that it was heard.';

-- The caller holds the cursor. Shards that wait again come first, in order; LIMIT is a constant here because a
-- parameter is planned as a tenth of the table, which costs a sequential scan.
create function lease_waiting(w bigint, j job, room int, lease int) returns setof shard language plpgsql
set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    return query with ready as materialized (
        select shard_no from shard where job_id = j.id and state = 'waiting' and ready_at <= clock() order by shard_no limit 64
    ), taken as (
        update shard s set state = 'leased', ready_at = null, attempt = s.attempt + 1, token = nextval('lease_token'), worker_id = w,
            lease_ms = lease, leased_until = clock() + lease * interval '1 millisecond', in_flight = '{}'
        where s.job_id = j.id and s.shard_no = any (array(select shard_no from ready order by shard_no limit room)) returning s.*
    ), history as (
        insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
            select job_id, shard_no, attempt, tenant_id, j.round, token, w, clock() from taken
    )
    select * from taken;
end $$;
comment on function lease_waiting(bigint, job, int, int) is 'Leases shards that wait.';

create function lease_new(w bigint, j job, room int, lease int) returns setof shard language plpgsql
set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    return query with here as materialized (
        select next_item, next_shard, least(room, (j.n_items - next_item + j.shard_items - 1) / j.shard_items)::int as n
        from job_cursor where job_id = j.id and next_item < j.n_items
    ), moved as (
        update job_cursor c set next_item = least(j.n_items, c.next_item + here.n * j.shard_items::bigint), next_shard = c.next_shard + here.n
        from here where c.job_id = j.id
    ), carved as (
        insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, worker_id, lease_ms, leased_until, attempt)
            select j.id, here.next_shard + k, j.tenant_id, 'items', 'leased', here.next_item + k * j.shard_items::bigint,
                least(j.n_items, here.next_item + (k + 1) * j.shard_items::bigint), nextval('lease_token'), w, lease,
                clock() + lease * interval '1 millisecond', 1
            from here, generate_series(0, here.n - 1) k
        returning *
    ), history as (
        insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
            select job_id, shard_no, 1, tenant_id, j.round, token, w, clock() from carved
    )
    select * from carved;
end $$;
comment on function lease_new(bigint, job, int, int) is 'Carves shards from the cursor and leases them.';

create function claim(worker bigint, n int, lease_ms int, out job_id bigint, out shard_no int, out kind shard_kind, out first_item bigint,
    out end_item bigint, out token bigint, out attempt int)
returns setof record language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_worker worker := calling_worker(claim.worker);
    v_room int := least(greatest(claim.n, 0), 64);
    v_candidate bigint;
    v_cursor job_cursor;
    v_job job;
    v_shard shard;
    v_holds_cursor boolean := false;
begin
    if v_worker.drain then
        return;
    elsif claim.lease_ms not between 100 and 3600000 then
        perform refuse(format('a lease of %s ms is not between 100 ms and an hour', claim.lease_ms));
    end if;
    for v_candidate in
        select j.id from job j
        where j.state in ('ready', 'closing') and not j.held and v_worker.models ? j.model_key
            and (j.allow_mixed or j.fingerprint_id is null
                or j.fingerprint_id = (select f.id from fingerprint f where f.sha256 = v_worker.models ->> j.model_key))
            and (exists (select from job_cursor c where c.job_id = j.id and c.next_item < j.n_items)
                or exists (select from shard s where s.job_id = j.id and s.state = 'waiting' and s.ready_at <= clock()))
        order by j.priority desc, j.id
    loop
        -- Waiting is right: skipping a locked cursor would leave workers idle beside work. Waiting for a second one
        -- while holding the first could be a deadlock.
        if v_holds_cursor then
            select * into v_cursor from job_cursor c where c.job_id = v_candidate for update skip locked;
            continue when not found;
        else
            select * into v_cursor from job_cursor c where c.job_id = v_candidate for update;
            v_holds_cursor := true;
        end if;
        select * into v_job from job j where j.id = v_candidate and j.state in ('ready', 'closing') and not j.held;
        continue when not found or prefix_refusal(v_job.tenant_id, v_job.dest, v_job.inputs) is not null;
        for v_shard in select * from lease_waiting(v_worker.id, v_job, v_room, claim.lease_ms) order by shard_no loop
            select v_shard.job_id, v_shard.shard_no, v_shard.kind, v_shard.first_item, v_shard.end_item, v_shard.token, v_shard.attempt
                into job_id, shard_no, kind, first_item, end_item, token, attempt;
            v_room := v_room - 1;
            return next;
        end loop;
        if v_room > 0 and v_cursor.next_item < v_job.n_items then
            for v_shard in select * from lease_new(v_worker.id, v_job, v_room, claim.lease_ms) order by shard_no loop
                select v_shard.job_id, v_shard.shard_no, v_shard.kind, v_shard.first_item, v_shard.end_item, v_shard.token, v_shard.attempt
                    into job_id, shard_no, kind, first_item, end_item, token, attempt;
                v_room := v_room - 1;
                return next;
            end loop;
        end if;
        if v_job.started_at is null or (v_job.fingerprint_id is null and not v_job.allow_mixed) then
            update job j set started_at = coalesce(j.started_at, clock()), fingerprint_id = coalesce(j.fingerprint_id,
                case when not j.allow_mixed then (select f.id from fingerprint f where f.sha256 = v_worker.models ->> j.model_key) end)
            where j.id = v_job.id;
        end if;
        exit when v_room = 0;
    end loop;
end $$;
comment on function claim(bigint, int, int) is
    'Leases up to n (64) shards for lease_ms: by priority, then age of the job, then shard number. Carves new shards when none waits.';

-- Whether this is a live lease of session_user; reads only.
create function has_lease(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint) returns boolean
language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return exists (select from shard s join worker w on w.id = s.worker_id
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and s.state = 'leased' and s.leased_until > clock() and w.login = session_user);
end $$;
comment on function has_lease(bigint, bigint, int, bigint) is 'Whether a lease is live and belongs to session_user.';

create function job_info(worker bigint, job bigint, shard int, token bigint) returns jsonb
language sql stable security definer set search_path = nightshift, pg_temp as $$
    select jsonb_build_object('job', j.id, 'name', j.name, 'tenant', t.name, 'kind', j.kind, 'resolved', j.resolved, 'spec_text', j.spec_text,
        'spec_sha256', encode(j.spec_sha256, 'hex'), 'dest', j.dest, 'round', j.round, 'n_items', j.n_items, 'n_rows', j.n_rows,
        'run_date', j.run_date, 'run_index', j.run_index, 'submitted_unix_ms', floor(extract(epoch from j.submitted_at) * 1000)::bigint,
        'input_prefixes', t.input_prefixes, 'dest_prefixes', t.dest_prefixes, 'fingerprint', f.sha256)
    from job j join tenant t on t.id = j.tenant_id left join fingerprint f on f.id = j.fingerprint_id
    where j.id = job_info.job and has_lease(job_info.worker, job_info.job, job_info.shard, job_info.token)
$$;
comment on function job_info(bigint, bigint, int, bigint) is 'What a worker needs to know of a job; null when the lease is lost.';

create function inputs(worker bigint, job bigint, shard int, token bigint, from_row bigint, to_row bigint)
returns table (first_row bigint, n_rows int, data bytea)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    if not has_lease(inputs.worker, inputs.job, inputs.shard, inputs.token) then
        perform refuse('the lease was lost', code => 'NSLST');
    end if;
    return query select c.first_row, c.n_rows, c.data from input_chunk c
        where c.job_id = inputs.job and c.first_row > inputs.from_row - 1000 and c.first_row < inputs.to_row
            and c.first_row + c.n_rows > inputs.from_row
        order by c.first_row;
end $$;
comment on function inputs(bigint, bigint, int, bigint, bigint, bigint) is 'Chunks that hold input rows from_row (included) to to_row (excluded).';

create function artifacts_json(stored artifact[]) returns jsonb language sql immutable parallel safe as $$
    select coalesce(jsonb_agg(jsonb_build_object('role', role, 'key', key, 'bytes', bytes, 'sha256', encode(sha256, 'hex'))), '[]')
    from unnest(stored)
$$;
comment on function artifacts_json(artifact[]) is 'Objects of an item as JSON, sha256 in hex.';
grant execute on function artifacts_json(artifact[]) to nightshift_tenant;

create function finished(worker bigint, job bigint, shard int, token bigint, after_index bigint, "limit" int)
returns table (index bigint, status text, item_id text, seed bigint, shard_no int, attempt int, worker_id bigint, error_code text, error_message text,
    artifacts jsonb, gpu_ms int, tokens int, steps int, fingerprint text, info jsonb, finished_unix_ms bigint)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_shard shard;
begin
    if not has_lease(finished.worker, finished.job, finished.shard, finished.token) then
        perform refuse('the lease was lost', code => 'NSLST');
    end if;
    select * into v_shard from shard s where s.job_id = finished.job and s.shard_no = finished.shard;
    return query select i.index, i.status::text, encode(i.item_id, 'hex'), i.seed, i.shard_no, i.attempt::int, a.worker_id, i.error_code,
            i.error_message, artifacts_json(i.artifacts), i.gpu_ms, i.tokens, i.steps, f.sha256, i.info,
            floor(extract(epoch from i.finished_at) * 1000)::bigint
        from item i left join fingerprint f on f.id = i.fingerprint_id
            left join attempt a on a.job_id = i.job_id and a.shard_no = i.shard_no and a.attempt = i.attempt
        where i.job_id = finished.job and i.index > finished.after_index and i.index >= v_shard.first_item and i.index < v_shard.end_item
        order by i.index limit least(greatest(finished."limit", 1), 10000);
end $$;
comment on function finished(bigint, bigint, int, bigint, bigint, int) is
    'Final items of the range of the lease (close: of the whole job) after an index, at most limit (10,000).';

grant execute on function register(int, int, text, jsonb, jsonb), claim(bigint, int, int), job_info(bigint, bigint, int, bigint),
    inputs(bigint, bigint, int, bigint, bigint, bigint), finished(bigint, bigint, int, bigint, bigint, int) to nightshift_worker;

reset search_path;
reset role;
