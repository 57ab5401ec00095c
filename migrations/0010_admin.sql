-- What an administrator calls: the login that ran the migrations, or another member of nightshift_owner with CREATEROLE.
-- These functions run with the caller's own rights and are granted to nobody.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function create_tenant(name text) returns int language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_id int;
begin
    if create_tenant.name !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
        perform refuse(format('%L is not a name for a tenant', create_tenant.name), 'use lower-case letters, digits, ".", "_" and "-"');
    end if;
    insert into tenant (name) values (create_tenant.name) on conflict (name) do nothing;
    select t.id into v_id from tenant t where t.name = create_tenant.name;
    return v_id;
end $$;
comment on function create_tenant(text) is 'Id of the tenant, made when new.';

create function create_login(kind text, name text, password text, tenant text default null) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_group text := 'nightshift_' || kind;
    v_other text;
begin
    if kind not in ('tenant', 'worker', 'scheduler') then
        perform refuse(format('%L is not a kind of login', kind), 'use tenant, worker or scheduler');
    elsif name !~ '^[a-z_][a-z0-9_]{0,62}$' or name like 'nightshift\_%' and name in ('nightshift_owner', 'nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler') then
        perform refuse(format('%L is not a name for a login', name), 'use lower-case letters, digits and "_"');
    elsif (kind = 'tenant') <> (create_login.tenant is not null) then
        perform refuse('a login of kind tenant needs a tenant, the others have none');
    end if;
    select g.rolname into v_other from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles l on l.oid = m.member
        where l.rolname = name and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler') and g.rolname <> v_group;
    if v_other is not null then
        perform refuse(format('login %s is a member of %s already', name, v_other), 'one login has one kind: create another');
    end if;
    if exists (select from pg_roles where rolname = name) then
        if not exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles l on l.oid = m.member
                where l.rolname = name and g.rolname = v_group) then
            perform refuse(format('role %s exists and is none of ours', name), 'choose another name');
        end if;
        execute format('alter role %I login password %L', name, password);
    else
        execute format('create role %I login password %L in role %I', name, password, v_group);
    end if;
    if create_login.tenant is not null then
        insert into member (login, tenant_id) values (name, create_tenant(create_login.tenant)) on conflict do nothing;
    end if;
end $$;
comment on function create_login(text, text, text, text) is
    'Makes a login of kind tenant, worker or scheduler, or gives an existing one a new password; adds it to a tenant.';

create function set_prefixes(tenant text, input_prefixes text[], dest_prefixes text[]) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_bad text;
    v_id int := create_tenant(set_prefixes.tenant);
begin
    select p into v_bad from unnest(set_prefixes.input_prefixes || set_prefixes.dest_prefixes) p where p !~ '^[a-z][a-z0-9+.-]*://' limit 1;
    if v_bad is not null then
        perform refuse(format('%L is not a prefix', v_bad), 'write it with its scheme: s3://bucket/path/');
    end if;
    update tenant t set input_prefixes = set_prefixes.input_prefixes, dest_prefixes = set_prefixes.dest_prefixes where t.id = v_id;
end $$;
comment on function set_prefixes(text, text[], text[]) is 'Sets where inputs and destinations of a tenant may lie; makes the tenant when new.';

create function drain_worker(worker bigint, drain boolean) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    update worker w set drain = drain_worker.drain where w.id = drain_worker.worker;
    if not found then
        perform refuse(format('there is no worker %s', drain_worker.worker), code => 'NSNOF');
    end if;
end $$;
comment on function drain_worker(bigint, boolean) is 'Asks a worker to finish its slots and take nothing new, or undoes it.';

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 10 $$;

reset search_path;
reset role;
