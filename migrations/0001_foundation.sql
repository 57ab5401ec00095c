-- Roles, the schema, the clock, versions, refusals. README.md says how migrations may change.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['nightshift_owner', 'nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation then
                null; -- roles belong to the whole cluster: another database was migrated at the same moment
            end;
        end if;
    end loop;
    if not pg_has_role(current_user, 'nightshift_owner', 'member') then
        execute format('grant nightshift_owner to %I', current_user);
    end if;
end $$;

create schema nightshift authorization nightshift_owner;

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Functions are the protocol, so none is open to everybody by default.
alter default privileges for role nightshift_owner revoke execute on functions from public;
grant usage on schema nightshift to nightshift_tenant, nightshift_worker, nightshift_scheduler;

comment on schema nightshift is 'Jobs, shards, leases and results. Users, workers and schedulers speak to it through its functions and views.';

create function clock() returns timestamptz language sql stable parallel safe
    as $$ select pg_catalog.clock_timestamp() $$;
comment on function clock() is 'The only clock. The owner alone may call or replace it; tests replace it in their own database.';

create function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 1 $$;
comment on function versions() is
    'Newest and oldest protocol spoken (names, arguments and meaning of the functions), and the newest migration applied.';
grant execute on function versions() to nightshift_tenant, nightshift_worker, nightshift_scheduler;

-- Errors that a caller can act on; the codes are listed in README.md.
create function refuse(message text, hint text default null, detail text default null, code text default 'NSREF') returns void
language plpgsql as $$
begin
    raise exception using errcode = code, message = message, hint = coalesce(hint, ''), detail = coalesce(detail, '');
end $$;
comment on function refuse(text, text, text, text) is 'Raises an error with one of our own codes.';

create type job_state as enum ('submitted', 'rejected', 'ready', 'paused', 'closing', 'cancelling', 'cancelled',
    'finished', 'finished_with_errors', 'failed');
create type shard_state as enum ('waiting', 'leased', 'finished', 'dead', 'cancelled');
create type shard_kind as enum ('items', 'close');
create type attempt_outcome as enum ('released', 'finished', 'failed', 'lost', 'cancelled');
create type item_status as enum ('ok', 'failed', 'skipped');
create type on_existing as enum ('refuse', 'resume', 'overwrite');

create type artifact as (role text, key text, bytes bigint, sha256 bytea);
comment on type artifact is 'A stored object of an item.';
comment on column artifact.role is 'What it is: image, map, joint, ...; fixed per kind of job.';
comment on column artifact.key is 'Key relative to the destination of the job.';
comment on column artifact.bytes is 'Size in bytes.';
comment on column artifact.sha256 is 'sha256 of the object, 32 bytes.';

create sequence lease_token;
comment on sequence lease_token is 'Fencing tokens: one source for all shards, a new one at every claim and every expiry.';

-- The legal moves of jobs and shards, as data: scheduler/store/src/state.rs holds the same list, a test compares them.
create table legal_move (
    noun text not null constraint legal_move_noun check (noun in ('job', 'shard')),
    from_state text not null,
    to_state text not null,
    primary key (noun, from_state, to_state)
);
comment on table legal_move is 'Which state may follow which; enforced by triggers on job and shard.';
comment on column legal_move.noun is 'job or shard.';
comment on column legal_move.from_state is 'State before.';
comment on column legal_move.to_state is 'State after.';

insert into legal_move (noun, from_state, to_state) values
    ('job', 'submitted', 'rejected'),
    ('job', 'submitted', 'ready'),
    ('job', 'submitted', 'closing'),
    ('job', 'submitted', 'cancelled'),
    ('job', 'ready', 'paused'),
    ('job', 'paused', 'ready'),
    ('job', 'ready', 'closing'),
    ('job', 'paused', 'closing'),
    ('job', 'ready', 'cancelling'),
    ('job', 'paused', 'cancelling'),
    ('job', 'closing', 'cancelling'),
    ('job', 'cancelling', 'cancelled'),
    ('job', 'cancelling', 'failed'),
    ('job', 'closing', 'finished'),
    ('job', 'closing', 'finished_with_errors'),
    ('job', 'closing', 'failed'),
    ('job', 'finished_with_errors', 'ready'),
    ('job', 'failed', 'ready'),
    ('job', 'cancelled', 'ready'),
    ('job', 'failed', 'closing'),
    ('job', 'cancelled', 'closing'),
    ('shard', 'waiting', 'leased'),
    ('shard', 'waiting', 'cancelled'),
    ('shard', 'leased', 'waiting'),
    ('shard', 'leased', 'finished'),
    ('shard', 'leased', 'dead'),
    ('shard', 'leased', 'cancelled'),
    ('shard', 'finished', 'waiting'),
    ('shard', 'dead', 'waiting'),
    ('shard', 'cancelled', 'waiting');

create function check_move() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    if not exists (select from legal_move where noun = tg_argv[0] and from_state = old.state::text and to_state = new.state::text) then
        raise exception 'a % cannot go from % to %', tg_argv[0], old.state, new.state;
    end if;
    return new;
end $$;
comment on function check_move() is 'Trigger: refuses a move that legal_move does not list.';

reset search_path;
reset role;
