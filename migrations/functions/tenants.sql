-- Tenants, their shares, and the logins that act for them. The owner of the database calls these.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function check_our_login(login text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    v_kind text;
begin
    select substr(g.rolname, 12) into v_kind from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles l on l.oid = m.member
        where l.rolname = login and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler');
    if v_kind is null then
        perform refuse(format('there is no login %s of ours', login), code => 'NSNOF');
    end if;
    return v_kind;
end $$;
comment on function check_our_login(text) is 'Kind of a login that create_login made; an error for any other role.';

create or replace function create_tenant(name text) returns int language plpgsql set search_path = nightshift, pg_temp as $$
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

create or replace function set_prefixes(tenant text, input_prefixes text[], dest_prefixes text[]) returns void
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

create or replace function set_tenant(name text, settings jsonb default '{}', new boolean default false) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    t tenant;
    v_unknown text;
begin
    select string_agg(k, ', ') into v_unknown from jsonb_object_keys(settings) k
        where k not in ('input_prefixes', 'dest_prefixes', 'weight', 'max_leased', 'max_gpu_hours', 'webhook_prefixes', 'secret_names');
    if v_unknown is not null then
        perform refuse(format('a tenant has no setting %s', v_unknown), 'set input_prefixes, dest_prefixes, webhook_prefixes, secret_names, weight, max_leased, max_gpu_hours');
    elsif settings ? 'weight' and coalesce((settings ->> 'weight')::double precision, 0) <= 0 then
        perform refuse(format('%s is not a weight', settings ->> 'weight'), 'a weight is a number above 0; most tenants have 1');
    elsif exists (select from jsonb_array_elements_text(coalesce(settings -> 'webhook_prefixes', '[]')) p where p !~ '^https?://') then
        perform refuse('a webhook prefix begins with https:// or http://');
    elsif exists (select from jsonb_array_elements_text(coalesce(settings -> 'secret_names', '[]')) p where p !~ '^[A-Z_][A-Z0-9_]*$') then
        perform refuse('a secret is named like an environment variable', 'its value is set where the scheduler runs');
    elsif (settings ->> 'max_leased')::int < 0 or (settings ->> 'max_gpu_hours')::numeric < 0 then
        perform refuse('a limit is a number of at least 0', 'null lifts it');
    end if;
    select * into t from tenant x where x.name = set_tenant.name;
    if set_tenant.new and t.id is not null then
        perform refuse(format('there is a tenant %s already', set_tenant.name), format('change it: nightshift admin tenant set %s', set_tenant.name));
    elsif not set_tenant.new and t.id is null then
        perform refuse(format('there is no tenant %s', set_tenant.name), code => 'NSNOF');
    elsif set_tenant.new then
        perform create_tenant(set_tenant.name);
        select * into t from tenant x where x.name = set_tenant.name;
    end if;
    if settings ?| array['input_prefixes', 'dest_prefixes'] then
        perform set_prefixes(set_tenant.name,
            case when settings ? 'input_prefixes' then array(select jsonb_array_elements_text(settings -> 'input_prefixes')) else t.input_prefixes end,
            case when settings ? 'dest_prefixes' then array(select jsonb_array_elements_text(settings -> 'dest_prefixes')) else t.dest_prefixes end);
    end if;
    update tenant x set
        webhook_prefixes = case when settings ? 'webhook_prefixes' then array(select jsonb_array_elements_text(settings -> 'webhook_prefixes')) else x.webhook_prefixes end,
        secret_names = case when settings ? 'secret_names' then array(select jsonb_array_elements_text(settings -> 'secret_names')) else x.secret_names end
        where x.id = t.id and settings ?| array['webhook_prefixes', 'secret_names'];
    update share s set
        weight = case when settings ? 'weight' then (settings ->> 'weight')::double precision else s.weight end,
        max_leased = case when settings ? 'max_leased' then (settings ->> 'max_leased')::int else s.max_leased end,
        max_gpu_ms = case when settings ? 'max_gpu_hours' then round((settings ->> 'max_gpu_hours')::numeric * 3600000)::bigint else s.max_gpu_ms end
        where s.tenant_id = t.id and settings ?| array['weight', 'max_leased', 'max_gpu_hours'];
end $$;
comment on function set_tenant(text, jsonb, boolean) is
    'Changes the given settings of a tenant (input_prefixes, dest_prefixes, webhook_prefixes, secret_names, weight, max_leased, max_gpu_hours; null lifts a limit); new makes it first.';

create or replace function open_share() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into share (tenant_id) values (new.id) on conflict do nothing;
    return new;
end $$;
comment on function open_share() is 'Trigger: every tenant has a share.';
create or replace trigger tenant_open_share after insert on tenant for each row execute function open_share();

-- Like a retry: who changes prefixes waits for cursors with others in hand, but not for long. Then all are given up, and taken again.
create or replace function mark_changed_tenant() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job bigint;
begin
    loop
        begin
            perform set_config('lock_timeout', '250', true);
            for v_job in select id from job where tenant_id = new.id and state in ('ready', 'paused', 'closing', 'cancelling') order by id loop
                perform from job_cursor where job_id = v_job for update;
                perform mark_job(v_job);
            end loop;
            perform set_config('lock_timeout', '0', true);
            return null;
        exception when lock_not_available then
            perform pg_sleep(0.01);
        end;
    end loop;
end $$;
comment on function mark_changed_tenant() is 'Trigger: allowed prefixes changed.';
create or replace trigger tenant_mark after update of input_prefixes, dest_prefixes on tenant for each row execute function mark_changed_tenant();

create or replace function create_login(kind text, name text, password text, tenant text default null) returns void
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

create or replace function drop_login(login text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_our_login(drop_login.login);
    delete from member m where m.login = drop_login.login;
    execute format('drop role %I', drop_login.login);
end $$;
comment on function drop_login(text) is
    'Removes a login that create_login made. What it submitted stays; a worker of it is refused from its next call on.';

create or replace function add_member(login text, tenant text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_id int;
begin
    if check_our_login(add_member.login) <> 'tenant' then
        perform refuse(format('login %s is not one of tenants', add_member.login), 'one login has one kind: create another');
    end if;
    select t.id into v_id from tenant t where t.name = add_member.tenant;
    if v_id is null then
        perform refuse(format('there is no tenant %s', add_member.tenant), code => 'NSNOF');
    end if;
    insert into member (login, tenant_id) values (add_member.login, v_id) on conflict do nothing;
end $$;
comment on function add_member(text, text) is 'Lets an existing login of kind tenant act for one more tenant.';

create or replace function remove_member(login text, tenant text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    delete from member m using tenant t where m.login = remove_member.login and t.id = m.tenant_id and t.name = remove_member.tenant;
    if not found then
        perform refuse(format('login %s is no member of tenant %s', remove_member.login, remove_member.tenant), code => 'NSNOF');
    end if;
end $$;
comment on function remove_member(text, text) is 'The login acts and sees for this tenant no more, from its next statement on.';

create or replace function drain_worker(worker bigint, drain boolean) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    update worker w set drain = drain_worker.drain where w.id = drain_worker.worker;
    if not found then
        perform refuse(format('there is no worker %s', drain_worker.worker), code => 'NSNOF');
    end if;
end $$;
comment on function drain_worker(bigint, boolean) is 'Asks a worker to finish its slots and take nothing new, or undoes it.';

reset search_path;
reset role;
