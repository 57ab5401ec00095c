-- Roles, the schema, what was applied to it, its types, and the legal moves of jobs and shards.

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
    -- From Postgres 16 on whoever makes a role may grant it, and is no member of it yet.
    if current_setting('server_version_num')::int >= 160000 then
        if not pg_has_role(current_user, 'nightshift_owner', 'set') then
            execute format('grant nightshift_owner to %I with set true, inherit true', current_user);
        end if;
    elsif not pg_has_role(current_user, 'nightshift_owner', 'member') then
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

create table migration (
    number int primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table migration is 'What nightshift migrate applied. Its lock makes those who migrate take turns; nobody but the owner can take it.';
comment on column migration.number is '1: the tables as they were made. Higher: an upgrade. 0: functions and views.';
comment on column migration.name is 'The file, or what it stands for.';
comment on column migration.sha256 is 'sha256 of what was applied, hex.';
comment on column migration.applied_at is 'When.';
alter table migration enable row level security;

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

create type refusal as (place text, message text, hint text);
comment on type refusal is 'Why a spec is not planned, or a job may not go on.';
comment on column refusal.place is 'The key of the spec that it is about: input, output.dest, schedule.after, notify.';
comment on column refusal.message is 'What is wrong.';
comment on column refusal.hint is 'What to do, or what is allowed.';

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
    ('job', 'submitted', 'rejected'), ('job', 'submitted', 'ready'), ('job', 'submitted', 'closing'), ('job', 'submitted', 'cancelled'),
    ('job', 'ready', 'paused'), ('job', 'paused', 'ready'), ('job', 'ready', 'closing'), ('job', 'paused', 'closing'),
    ('job', 'ready', 'cancelling'), ('job', 'paused', 'cancelling'), ('job', 'closing', 'cancelling'), ('job', 'cancelling', 'cancelled'),
    ('job', 'cancelling', 'failed'), ('job', 'closing', 'finished'), ('job', 'closing', 'finished_with_errors'),
    ('job', 'closing', 'failed'), ('job', 'finished_with_errors', 'ready'), ('job', 'failed', 'ready'), ('job', 'cancelled', 'ready'),
    ('job', 'failed', 'closing'), ('job', 'cancelled', 'closing'),
    ('shard', 'waiting', 'leased'), ('shard', 'waiting', 'cancelled'), ('shard', 'leased', 'waiting'), ('shard', 'leased', 'finished'),
    ('shard', 'leased', 'dead'), ('shard', 'leased', 'cancelled'), ('shard', 'finished', 'waiting'), ('shard', 'dead', 'waiting'),
    ('shard', 'cancelled', 'waiting'), ('shard', 'waiting', 'dead');

reset search_path;
reset role;
