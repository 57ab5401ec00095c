-- Workers, the engines they run, and the scheduler that leads.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table fingerprint (
    id smallint generated always as identity primary key,
    sha256 text not null constraint fingerprint_once unique
);
comment on table fingerprint is 'Engine fingerprints, so that an item row holds two bytes instead of sixty-four.';
comment on column fingerprint.id is 'Identity.';
comment on column fingerprint.sha256 is 'The fingerprint as the engine reports it, hex.';
grant select on fingerprint to nightshift_tenant;

create table worker (
    id bigint generated always as identity primary key,
    login name not null,
    name text not null,
    protocol int not null,
    schema int not null,
    models jsonb not null constraint worker_models_object check (jsonb_typeof(models) = 'object'),
    info jsonb not null default '{}',
    health jsonb not null default '{}',
    drain boolean not null default false,
    registered_at timestamptz not null default clock(),
    seen_at timestamptz not null default clock(),
    labels text[] not null default '{}',
    memory_bytes bigint not null default 0,
    loaded text
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table worker is 'One registration of a worker process. A restarted process is a new row.';
comment on column worker.id is 'Identity.';
comment on column worker.login is 'session_user that registered it; only this login may use the id.';
comment on column worker.name is 'Name for people.';
comment on column worker.protocol is 'Protocol it speaks.';
comment on column worker.schema is 'Newest upgrade its program knows.';
comment on column worker.models is 'Model key "name/weights/kv_cache" to engine fingerprint.';
comment on column worker.info is 'What it said about itself at registration.';
comment on column worker.health is
    'What it said with its last progress call. items: "job/index" of what is in its slots; item_ms: by job, milliseconds from one picture to the next.';
comment on column worker.drain is 'Claims nothing new; finishes what is in its slots and gives the rest back.';
comment on column worker.registered_at is 'When it registered.';
comment on column worker.seen_at is 'When it was last heard, exact to a second; a worker that left counts as silent for more than a minute.';
comment on column worker.labels is 'Its labels as "key=value".';
comment on column worker.memory_bytes is 'Memory of its device in bytes; 0: not said.';
comment on column worker.loaded is 'Model key of the last shard it claimed: most likely in its memory.';
alter table worker enable row level security;
-- Workers serve everybody; their rows name no tenant's data.
create policy everybody on worker for select to nightshift_tenant using (true);
grant select on worker to nightshift_tenant;

create table leader (
    only_row boolean primary key default true constraint leader_only_row check (only_row),
    term bigint not null,
    holder text not null,
    login name not null,
    leads_until timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table leader is 'Which scheduler leads: one row.';
comment on column leader.only_row is 'True.';
comment on column leader.term is 'Grows with every change of leader.';
comment on column leader.holder is 'Name of the leading process.';
comment on column leader.login is 'Its session_user.';
comment on column leader.leads_until is 'Until when it leads unless it renews.';
alter table leader enable row level security;
insert into leader (term, holder, login, leads_until) values (0, '', '', '-infinity');

reset search_path;
reset role;
