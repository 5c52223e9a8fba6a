-- pgbench.sh's reports: sorts, hashes, strings and JSON of :rows rows of pgbench's accounts. :client_id makes each
-- client's rows its own.
select count(*), max(length(whole))
    from (
        select jsonb_object_agg(aid::text, jsonb_build_object('balance', abalance, 'name', repeat('n', aid % 50)))::text
            as whole
        from pgbench_accounts
        where aid between 1 + :client_id * :rows and (:client_id + 1) * :rows
        group by aid % 100
    ) as documents;
select count(*)
    from (
        select md5(aid::text) as name, array_agg(aid order by abalance)
        from pgbench_accounts
        where aid between 1 + :client_id * :rows and (:client_id + 1) * :rows
        group by name
        order by name
    ) as names;
select length(string_agg(upper(filler) || aid, ','))
    from pgbench_accounts
    where aid between 1 + :client_id * :rows and (:client_id + 1) * :rows;
