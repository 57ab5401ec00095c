-- The catalogue of schema nightshift as text, a line for each thing, sorted: two databases that give the same lines were made the same.
-- Partitions of events follow the calendar, and the marks of what was applied have their times: they are left out.
with rel as (
    select c.* from pg_class c where c.relnamespace = 'nightshift'::regnamespace and c.relname !~ '^event_(before|[0-9])'
), acl (of, text) as (
    select x.of, string_agg(a::text, ',' order by a::text) from (
        select 'r' || oid as of, unnest(relacl) as a from rel
        union all select 'f' || oid, unnest(proacl) from pg_proc where pronamespace = 'nightshift'::regnamespace
        union all select 'n' || oid, unnest(nspacl) from pg_namespace where nspname = 'nightshift'
        union all select 't' || oid, unnest(typacl) from pg_type where typnamespace = 'nightshift'::regnamespace
        union all select 'd' || oid, unnest(defaclacl) from pg_default_acl
        union all select 'c' || attrelid || '.' || attnum, unnest(attacl) from pg_attribute where attrelid in (select oid from rel)) x group by 1
), lines (line) as (
    select format('schema %s owner=%s acl=%s comment=%s', n.nspname, n.nspowner::regrole, acl.text, obj_description(n.oid, 'pg_namespace'))
        from pg_namespace n left join acl on acl.of = 'n' || n.oid where n.nspname = 'nightshift'
    union all select format('role %s login=%s super=%s bypassrls=%s', rolname, rolcanlogin, rolsuper, rolbypassrls)
        from pg_roles where rolname ~ '^nightshift_(owner|tenant|worker|scheduler)$'
    union all select format('default privileges of %s on %s: %s', defaclrole::regrole, defaclobjtype, acl.text)
        from pg_default_acl d left join acl on acl.of = 'd' || d.oid where d.defaclrole = 'nightshift_owner'::regrole
    union all select format('enum %s (%s) owner=%s acl=%s comment=%s', t.typname, (select string_agg(enumlabel, ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid),
            t.typowner::regrole, acl.text, obj_description(t.oid, 'pg_type'))
        from pg_type t left join acl on acl.of = 't' || t.oid where t.typnamespace = 'nightshift'::regnamespace and t.typtype = 'e'
    union all select format('relation %s kind=%s owner=%s persistence=%s rls=%s/%s options=%s acl=%s partition=%s of=%s comment=%s', r.relname, r.relkind, r.relowner::regrole,
            r.relpersistence, r.relrowsecurity, r.relforcerowsecurity, (select string_agg(o, ',' order by o) from unnest(r.reloptions) o), acl.text,
            pg_get_expr(r.relpartbound, r.oid), (select string_agg(inhparent::regclass::text, ',') from pg_inherits where inhrelid = r.oid), obj_description(r.oid, 'pg_class'))
        from rel r left join acl on acl.of = 'r' || r.oid where r.relkind <> 'i'
    union all select format('column %s.%s %s place=%s null=%s default=%s identity=%s generated=%s storage=%s collation=%s acl=%s comment=%s', r.relname, a.attname,
            format_type(a.atttypid, a.atttypmod), rank() over (partition by r.oid order by a.attnum), not a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
            a.attstorage, a.attcollation::regcollation, acl.text, col_description(r.oid, a.attnum))
        from rel r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
        left join acl on acl.of = 'c' || r.oid || '.' || a.attnum where r.relkind in ('r', 'p', 'c', 'v')
    union all select format('sequence %s %s start=%s min=%s max=%s by=%s cycle=%s', r.relname, s.seqtypid::regtype, s.seqstart, s.seqmin, s.seqmax, s.seqincrement, s.seqcycle)
        from rel r join pg_sequence s on s.seqrelid = r.oid
    union all select format('constraint %s.%s %s validated=%s', r.relname, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
        from rel r join pg_constraint c on c.conrelid = r.oid
    union all select format('index %s valid=%s options=%s', pg_get_indexdef(r.oid), i.indisvalid, r.reloptions) from rel r join pg_index i on i.indexrelid = r.oid
    union all select format('trigger %s enabled=%s', pg_get_triggerdef(t.oid), t.tgenabled) from rel r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
    union all select format('policy %s on %s as %s for %s to %s using %s check %s', p.polname, r.relname, p.polpermissive, p.polcmd,
            (select string_agg(o::regrole::text, ',' order by o::regrole::text) from unnest(p.polroles) o), pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        from rel r join pg_policy p on p.polrelid = r.oid
    union all select format('view %s %s', r.relname, pg_get_viewdef(r.oid)) from rel r where r.relkind = 'v'
    union all select format('function %s owner=%s acl=%s comment=%s %s', p.oid::regprocedure, p.proowner::regrole, acl.text, obj_description(p.oid, 'pg_proc'),
            pg_get_functiondef(p.oid))
        from pg_proc p left join acl on acl.of = 'f' || p.oid where p.pronamespace = 'nightshift'::regnamespace
)
select line from lines order by line collate "C"
