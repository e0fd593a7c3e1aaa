-- An alert that opens or closes becomes one item for every way to reach a person that is configured.
begin;
select plan(12);
select tests.two_tenants();
select tests.member('pizza', 'second owner', 'owner');
delete from vault.secrets where name = 'alert_webhook_url';
delete from private.platform_credentials where provider = 'email';
create function pg_temp.items() returns text language sql as $$
  select coalesce(string_agg(format('%s %s', i.job, i.payload ->> 'event'), ', ' order by i.job, i.item_id), 'none') from jobs.items i where i.job like 'alert-%'
$$;
create function pg_temp.load(p_job text, p_event text) returns jobs.loaded language plpgsql as $$
declare
  v_loaded jobs.loaded;
begin
  execute format('select (l).* from (select i.* from jobs.items i where i.job = $1 and i.payload ->> ''event'' = $2 order by i.item_id desc limit 1) i
    cross join lateral %s(array[i.tenant_id], array[i.item_id], array[i.subject_id], array[i.payload]) l',
    (select load_function from jobs.definitions where job = p_job)) into v_loaded using p_job, p_event;
  return v_loaded;
end
$$;

select jobs.open_alert(null, 'test one', 'Nothing is configured.');
select is(pg_temp.items(), 'none', 'without a way to reach anybody nothing is sent');

select private.keep_secret('alert_webhook_url', 'https://hooks.example/canary-path');
select jobs.open_alert(null, 'test two', 'The oven is cold.');
select is(pg_temp.items(), 'alert-webhook opened', 'with a webhook an alert that opens is sent to it');
select is((pg_temp.load('alert-webhook', 'opened')).data, '{"url": "https://hooks.example/canary-path", "text": "The oven is cold."}', 'in words');
select is_empty($$ select from jobs.items i where i::text like '%canary%' $$, 'the address, which is a secret, is not kept with the item');
select jobs.close_alert(null, 'test two');
select is(pg_temp.items(), 'alert-webhook opened, alert-webhook closed', 'its end too');
select matches((pg_temp.load('alert-webhook', 'closed')).data ->> 'text', '^Over: The oven is cold\.', 'and that it is over');
select jobs.close_alert(null, 'test two');
select is(pg_temp.items(), 'alert-webhook opened, alert-webhook closed', 'once');

-- E-mail
delete from jobs.items where job like 'alert-%';
select jobs.set_platform_credential('email', 'resend', '{"api_key": "x"}');
select jobs.open_alert(null, 'test three', 'For the platform.');
select is(pg_temp.items(), 'alert-webhook opened', 'the platform''s alerts go by e-mail only where an address is set');
select jobs.open_alert(tests.id('pizza'), 'test four', 'For the owners.');
select is(pg_temp.items(), 'alert-email opened, alert-webhook opened, alert-webhook opened', 'a tenant''s own go to its owners');
select bag_eq($$ select jsonb_array_elements_text((pg_temp.load('alert-email', 'opened')).data -> 'to') $$, array['pizza owner@example.test', 'second owner@example.test'], 'to all of them and to nobody else');
select matches((pg_temp.load('alert-email', 'opened')).data ->> 'idempotency_key', '^alert-[0-9]+-opened$', 'with a key, so that a repetition is not a second e-mail');
-- Only a closed tenant can be without owners.
update public.tenants set status = 'closed' where id = tests.id('pizza');
delete from public.memberships where tenant_id = tests.id('pizza') and role = 'owner';
select is((pg_temp.load('alert-email', 'opened')).cancel, true, 'to nobody when there is nobody');

select * from finish();
rollback;
