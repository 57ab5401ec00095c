-- What every other file calls: the clock, versions, refusals, legal moves, notes of events, and what a tenant may use.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function clock() returns timestamptz language plpgsql stable parallel safe as $$ begin return pg_catalog.clock_timestamp(); end $$;
comment on function clock() is 'The only clock. The owner alone may call or replace it; tests replace it in their own database.';

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql stable security definer set search_path = nightshift, pg_temp as $$
    select 1, 1, max(number) from migration
$$;
comment on function versions() is
    'Newest and oldest protocol spoken (names, arguments and meaning of the functions), and the number of the newest upgrade.';
grant execute on function versions() to nightshift_tenant, nightshift_worker, nightshift_scheduler;

-- An empty HINT or DETAIL is a line of its own in psql.
create or replace function refuse(message text, hint text default null, detail text default null, code text default 'NSREF') returns void
language plpgsql as $$
begin
    if hint is not null and detail is not null then
        raise exception using errcode = code, message = message, hint = hint, detail = detail;
    elsif hint is not null then
        raise exception using errcode = code, message = message, hint = hint;
    elsif detail is not null then
        raise exception using errcode = code, message = message, detail = detail;
    end if;
    raise exception using errcode = code, message = message;
end $$;
comment on function refuse(text, text, text, text) is 'Raises an error with one of our own codes.';

create or replace function is_final(state job_state) returns boolean language sql immutable as $$
    select state in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed')
$$;
comment on function is_final(job_state) is 'Whether nothing more happens by itself.';
grant execute on function is_final(job_state) to nightshift_tenant;

create or replace function class_of(outcome attempt_outcome, code text) returns text language sql immutable parallel safe as $$
    select case when outcome = 'lost' then 'worker_lost' when code in ('oom', 'out_of_memory') then 'oom'
        when code in ('storage', 'database', 'spool') then 'storage' else 'other' end
$$;
comment on function class_of(attempt_outcome, text) is 'Class of a failed attempt, as retry.errors of a spec names it.';

create or replace function note(tenant int, job bigint, shard int, worker bigint, what text, message text) returns void language plpgsql as $$
begin
    insert into event (tenant_id, job_id, shard_no, worker_id, what, message) values (tenant, job, shard, worker, what, message);
end $$;
comment on function note(int, bigint, int, bigint, text, text) is 'Records an event.';

-- `s3://a/b` allows s3://a/b itself and everything below s3://a/b/, not s3://a/bc.
create or replace function is_allowed(uri text, prefixes text[]) returns boolean language plpgsql immutable parallel safe as $$
begin
    return uri !~ '(^|/)\.\.(/|$)' and exists (
        select from unnest(prefixes) p
        where starts_with(uri, p) and (right(p, 1) = '/' or length(uri) = length(p) or substr(uri, length(p) + 1, 1) = '/'));
end $$;
comment on function is_allowed(text, text[]) is 'Whether a URI lies under one of these prefixes.';

create or replace function prefix_refusal(for_tenant int, wanted text, inputs text[]) returns refusal
language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    t tenant;
    v_input text;
begin
    select * into t from tenant where id = for_tenant;
    if not is_allowed(wanted, t.dest_prefixes) then
        return row('output.dest', format('output.dest: tenant %s may not write to %s', t.name, wanted), case when t.dest_prefixes = '{}'
            then 'no destination is allowed yet' else 'allowed: ' || array_to_string(t.dest_prefixes, ', ') end)::refusal;
    end if;
    foreach v_input in array coalesce(inputs, '{}') loop
        if not is_allowed(v_input, t.input_prefixes) then
            return row('input', format('input: tenant %s may not read %s', t.name, v_input), case when t.input_prefixes = '{}'
                then 'no input location is allowed yet' else 'allowed: ' || array_to_string(t.input_prefixes, ', ') end)::refusal;
        end if;
    end loop;
    return null;
end $$;
comment on function prefix_refusal(int, text, text[]) is 'null, or why a job may not touch its locations.';

-- Row-level security. session_user, not current_user: a function of the owner still asks who is calling.
create or replace function my_tenants() returns setof int language sql stable security definer set search_path = nightshift, pg_temp as $$ select tenant_id from member where login = session_user $$;
comment on function my_tenants() is 'Tenants of the calling login.';
grant execute on function my_tenants() to nightshift_tenant;

reset search_path;
reset role;
