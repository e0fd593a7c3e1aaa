-- The built-in texts. A new version of the platform may change them; what a tenant wrote is its own.
insert into private.built_in_messages (kind, channel, language, subject, body)
select t.kind::public.message_kind, c.channel, t.language, case when c.channel = 'email' then t.subject end, t.body
from (values
  ('congratulation', 'en', 'Congratulations, {{name}}!', 'Congratulations, {{name}}! 🎉 Your task "{{task}}" has been verified. {{reward}}. Spin now: {{link}}'),
  ('congratulation', 'de', 'Glückwunsch, {{name}}!', 'Glückwunsch, {{name}}! 🎉 Deine Aufgabe „{{task}}“ wurde bestätigt. {{reward}}. Jetzt drehen: {{link}}'),
  ('congratulation', 'es', '¡Enhorabuena, {{name}}!', '¡Enhorabuena, {{name}}! 🎉 Tu tarea «{{task}}» se ha verificado. {{reward}}. Gira ahora: {{link}}'),
  ('congratulation', 'it', 'Congratulazioni, {{name}}!', 'Congratulazioni, {{name}}! 🎉 La tua attività "{{task}}" è stata verificata. {{reward}}. Gira ora: {{link}}'),
  ('reminder', 'en', 'Still to do: {{task}}', 'Hi {{name}}, your task "{{task}}" at {{business}} is not proven yet. Its code is {{code}}, the time for it ends on {{deadline}}: {{link}}'),
  ('welcome', 'en', 'Welcome to {{campaign}}', 'Welcome, {{name}}! You take part in {{campaign}} of {{business}}: {{link}} Reply STOP to end these messages.'),
  ('review_result', 'en', 'Your task "{{task}}"', 'Hi {{name}}, {{business}} has looked at your task "{{task}}" and could not accept it: {{reason}} {{link}}'),
  ('alert', 'en', '{{business}}: something needs your attention', '{{business}}: {{message}}')) as t (kind, language, subject, body)
cross join (values ('whatsapp'), ('email')) as c (channel)
on conflict (kind, channel, language) do update set subject = excluded.subject, body = excluded.body;
