-- A tenant's own texts: written by members, checked when they are written, shown before they are sent.
begin;
select plan(27);
select tests.two_tenants();
select jobs.set_setting('app_url', 'https://spin.example');

create function pg_temp.insert(p_who text, p_slug text, p_values text) returns text language sql as $$
  select tests.error_of(p_who, format('insert into public.message_templates (tenant_id, kind, language, body) values (%L, %s)', tests.id(p_slug), p_values))
$$;
select is(pg_temp.insert('pizza member', 'pizza', '''congratulation'', ''en'', ''Ciao {{name}}: {{spins}}, {{ reward }}. {{link}} ({{business}})'''), null, 'a member writes a text');
select matches(pg_temp.insert('pizza viewer', 'pizza', '''welcome'', ''en'', ''x'''), '^42501', 'a viewer does not');
select matches(pg_temp.insert('gym owner', 'pizza', '''welcome'', ''en'', ''x'''), '^42501', 'nor does another tenant''s owner');
select matches(pg_temp.insert('pizza participant', 'pizza', '''welcome'', ''en'', ''x'''), '^42501', 'nor a participant');
select is(pg_temp.insert('pizza member', 'pizza', '''welcome'', ''en'', ''Hi {{name}}, {{code}}'''),
  '22023: A message of the kind "welcome" has no variable "code". Known: name, business, link, campaign.', 'a variable that the kind does not know is refused by name, with the known ones');
select matches(pg_temp.insert('pizza member', 'pizza', '''welcome'', ''en'', ''Hi {{name'''), '^22023: .*no variable "\{\{name"', 'so are braces that do not close');
select matches(pg_temp.insert('pizza member', 'pizza', '''welcome'', ''en'', ''Hi {{}}'''), '^22023', 'and empty ones');
select matches(pg_temp.insert('pizza member', 'pizza', '''welcome'', ''English'', ''Hi'''), '^23514', 'a language is a language tag');
select matches(pg_temp.insert('pizza member', 'pizza', '''congratulation'', ''en'', ''again'''), '^23505', 'there is one text per kind, channel and language');
select matches(tests.error_of('pizza member', format('insert into public.message_templates (tenant_id, kind, body, whatsapp_template_name, whatsapp_parameters) values (%L, ''welcome'', ''x'', ''hello'', ''{name,spins}'')', tests.id('pizza'))),
  '^22023: .*no variable "spins"', 'a parameter of the approved template is a known variable too');
select matches(tests.error_of('pizza member', format('insert into public.message_templates (tenant_id, kind, channel, body) values (%L, ''welcome'', ''email'', ''x'')', tests.id('pizza'))), '^23514', 'an e-mail needs a subject');
select matches(tests.error_of('pizza member', format('insert into public.message_templates (tenant_id, kind, channel, subject, body) values (%L, ''welcome'', ''email'', E''a\nb'', ''x'')', tests.id('pizza'))), '^23514', 'of one line');
select is(tests.rows('gym owner', 'update public.message_templates set body = ''x'' where tenant_id = ' || quote_literal(tests.id('pizza'))), '0', 'another tenant''s owner changes none');
select is(tests.rows('pizza member', format('update public.message_templates set body = ''Hello {{name}}, {{reward}}!'' where tenant_id = %L and kind = ''congratulation''', tests.id('pizza'))), '1', 'a member does');
select matches(tests.error_of('pizza member', 'update public.message_templates set body = ''{{password}}'' where kind = ''congratulation'''), '^22023', 'a change is checked like a new text');
select matches(tests.error_of('pizza member', 'update public.message_templates set paused_at = null'), '^42501', 'the pause is not written by hand');

-- Preview
select is(tests.answer('pizza viewer', format('select public.preview_message(%L, ''congratulation'') ->> ''text''', tests.id('pizza'))), 'Hello Ana, 3 bonus spins have been added!', 'a preview shows the own text with sample values');
select is(tests.answer('pizza viewer', format('select public.preview_message(%L, ''congratulation'', language => ''de'') ->> ''text''', tests.id('pizza'))),
  'Glückwunsch, Ana! 🎉 Deine Aufgabe „Comment on our post“ wurde bestätigt. 3 Bonus-Spins wurden gutgeschrieben. Jetzt drehen: https://spin.example/campaigns/00000000-0000-0000-0000-000000000000', 'or the built-in one of a language');
select is(tests.answer('pizza viewer', format('select concat_ws('' '', p ->> ''built_in'', p ->> ''subject'') from public.preview_message(%L, ''congratulation'', ''email'') p', tests.id('pizza'))), 'true Congratulations, Ana!', 'with the subject of an e-mail');
select is(tests.answer(who, format('select public.preview_message(%L, ''congratulation'')', tests.id('pizza'))), '42501', format('%s previews nothing', who)) from unnest(array['gym owner', 'pizza participant', 'anon']) who;
select is(tests.answer('pizza viewer', format('select public.preview_message(%L, ''congratulation'', ''pigeon'')', tests.id('pizza'))), '22023', 'a channel is whatsapp or email');
select is_empty($$ select k, c from unnest(enum_range(null::public.message_kind)) k, unnest(array['whatsapp', 'email']) c
  where not exists (select from private.message_text(tests.id('gym'), k, c, array['sw']) m where m.language = 'en') $$, 'there is an English text for every kind and channel');
select is_empty($$ select b.kind, x.variable from private.built_in_messages b, regexp_matches(coalesce(b.subject, '') || b.body, '[{]{2}(.*?)[}]{2}', 'g') m, unnest(m) x (variable)
  where x.variable <> all (private.message_variables(b.kind::text)) $$, 'and every built-in text uses known variables only');

-- What is queued takes the own text and the approved template, with parameters in its order.
update public.message_templates set whatsapp_template_name = 'task_approved', whatsapp_template_language = 'en_US', whatsapp_parameters = '{spins,name}' where tenant_id = tests.id('pizza') and kind = 'congratulation';
update public.participants set display_name = E'Ana\nMaria' where tenant_id = tests.id('pizza');
delete from public.notification_outbox where tenant_id = tests.id('pizza');
select private.congratulate(array[c.tenant_id], array[c.id]) from public.completions c where c.tenant_id = tests.id('pizza');
select is((select payload -> 'template' from public.notification_outbox where tenant_id = tests.id('pizza')), '{"name": "task_approved", "language": "en_US", "parameters": [{"text": "3"}, {"text": "Ana Maria"}]}'::jsonb,
  'the approved template goes along, each parameter on one line as Meta wants it');
update public.message_templates set whatsapp_parameters_are_named = true where tenant_id = tests.id('pizza') and kind = 'congratulation';
delete from public.notification_outbox where tenant_id = tests.id('pizza');
select private.congratulate(array[c.tenant_id], array[c.id]) from public.completions c where c.tenant_id = tests.id('pizza');
select is((select payload #>> '{template,parameters,0,name}' from public.notification_outbox where tenant_id = tests.id('pizza')), 'spins', 'by name where the template has names');

select * from finish();
rollback;
