-- A week for the verdict's test that ends at {now}, made by copying the rows of a real start and a real autostop:
-- {workspaces} workspaces with {pairs} starts and stops each, some of them failed or with a run of Claude, and some
-- days of two workspaces with everything that Coder's history can say.
CREATE FUNCTION pg_temp.copy(source text, key uuid, changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE names text;
BEGIN
  SELECT string_agg(quote_ident(column_name), ', ') INTO names FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = source AND is_generated = 'NEVER';
  EXECUTE format('INSERT INTO public.%I (%s) SELECT %s FROM jsonb_populate_record(NULL::public.%I,
    (SELECT to_jsonb(t) FROM public.%I t WHERE id = $1) || $2)', source, names, names, source, source)
    USING key, changes;
END $$;

-- What is copied: the workspace "parked", its start and its stop.
CREATE TEMP TABLE model AS
  SELECT wb.workspace_id, w.template_id, wb.id AS start, wb.job_id AS start_job, wr.id AS resource, wa.id AS agent,
    app.id AS app, stop.id AS stop, stop.job_id AS stop_job
  FROM workspace_builds wb JOIN workspaces w ON w.id = wb.workspace_id AND w.name = 'parked'
  JOIN workspace_resources wr ON wr.job_id = wb.job_id JOIN workspace_agents wa ON wa.resource_id = wr.id
  JOIN workspace_apps app ON app.agent_id = wa.id AND app.slug = 'code-server'
  JOIN workspace_builds stop ON stop.workspace_id = w.id AND stop.build_number = 2 WHERE wb.build_number = 1;

-- The build that follows the ones there are. `job` says what differs in its job, `more` in itself.
CREATE FUNCTION pg_temp.build(start bool, ws uuid, begins timestamptz, job jsonb, more jsonb) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE build uuid := gen_random_uuid(); its_job uuid := gen_random_uuid(); model record;
BEGIN
  SELECT * INTO model FROM pg_temp.model;
  PERFORM pg_temp.copy('provisioner_jobs', CASE WHEN start THEN model.start_job ELSE model.stop_job END,
    jsonb_build_object('id', its_job, 'created_at', begins, 'started_at', begins, 'error', NULL,
      'completed_at', begins + CASE WHEN start THEN interval '3 seconds' ELSE interval '2 seconds' END) || job);
  PERFORM pg_temp.copy('workspace_builds', CASE WHEN start THEN model.start ELSE model.stop END,
    jsonb_build_object('id', build, 'job_id', its_job, 'workspace_id', ws, 'created_at', begins, 'build_number',
      (SELECT coalesce(max(build_number), 0) + 1 FROM workspace_builds WHERE workspace_id = ws)) || more);
  RETURN build;
END $$;

CREATE FUNCTION pg_temp.start(ws uuid, begins timestamptz, deadline timestamptz, memory_mb int, job jsonb DEFAULT '{}')
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE build uuid;
BEGIN
  build := pg_temp.build(true, ws, begins, job, jsonb_build_object('deadline', deadline));
  INSERT INTO workspace_build_parameters
    SELECT build, name, CASE WHEN name = 'memory_mb' THEN memory_mb::text ELSE value END
    FROM workspace_build_parameters WHERE workspace_build_id = (SELECT start FROM pg_temp.model);
  RETURN build;
END $$;

-- A start's agent, ready so many seconds after the start.
CREATE FUNCTION pg_temp.agent(build uuid, ready_s int) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE made_resource uuid := gen_random_uuid(); made uuid := gen_random_uuid(); begins timestamptz; script record;
BEGIN
  SELECT created_at INTO begins FROM workspace_builds WHERE id = build;
  PERFORM pg_temp.copy('workspace_resources', model.resource, jsonb_build_object('id', made_resource,
    'job_id', (SELECT job_id FROM workspace_builds WHERE id = build))) FROM pg_temp.model;
  PERFORM pg_temp.copy('workspace_agents', model.agent, jsonb_build_object('id', made, 'resource_id', made_resource,
    'auth_token', gen_random_uuid(), 'created_at', begins, 'first_connected_at', begins + interval '3 seconds',
    'started_at', begins + interval '4 seconds', 'ready_at', begins + ready_s * interval '1 second'))
    FROM pg_temp.model;
  FOR script IN SELECT id FROM workspace_agent_scripts WHERE workspace_agent_id = (SELECT agent FROM pg_temp.model) LOOP
    PERFORM pg_temp.copy('workspace_agent_scripts', script.id, jsonb_build_object('id', gen_random_uuid(),
      'workspace_agent_id', made));
  END LOOP;
  RETURN made;
END $$;

CREATE FUNCTION pg_temp.app(agent uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE made uuid := gen_random_uuid(); source uuid := (SELECT app FROM pg_temp.model);
BEGIN
  PERFORM pg_temp.copy('workspace_apps', source, jsonb_build_object('id', made, 'agent_id', agent));
  RETURN made;
END $$;

-- A report of the watcher each minute.
CREATE FUNCTION pg_temp.reports(ws uuid, agent uuid, app uuid, first timestamptz, last timestamptz,
  state text DEFAULT 'working', message text DEFAULT 'Claude is working') RETURNS void LANGUAGE sql AS $$
  INSERT INTO workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message, uri)
    SELECT gen_random_uuid(), time, agent, app, ws, state::workspace_app_status_state, message, ''
    FROM generate_series(first, last, interval '1 minute') AS time
$$;

DO $$
DECLARE
  week_ends timestamptz := '{now}'; step interval := interval '7.5 days' / {pairs};
  w int; n int; ws uuid; build uuid; agent uuid; app uuid; begins timestamptz; ends timestamptz; fails bool;
BEGIN
  FOR w IN 1..{workspaces} LOOP
    ws := gen_random_uuid();
    PERFORM pg_temp.copy('workspaces', model.workspace_id, jsonb_build_object('id', ws, 'name', 'old-' || w,
      'created_at', week_ends - interval '7.6 days')) FROM pg_temp.model;
    FOR n IN 0..{pairs} - 1 LOOP
      begins := week_ends - interval '7.6 days' + n * step + w * interval '3 minutes';
      ends := begins + step * (0.2 + 0.1 * w);
      fails := n % 25 = 7;
      build := pg_temp.start(ws, begins, ends, 1024 * w,
        CASE WHEN fails THEN '{"error": "Error: a reason that was made up"}' ELSE '{}' END::jsonb);
      IF NOT fails THEN
        agent := pg_temp.agent(build, 5 + (n * 7 + w) % 11);
        app := pg_temp.app(agent);
        IF w = 1 AND n % 50 = 9 THEN
          -- A run of nine minutes, until the autostop.
          PERFORM pg_temp.reports(ws, agent, app, ends - interval '9 minutes', ends);
        ELSIF w = 1 AND n % 25 = 9 THEN
          PERFORM pg_temp.reports(ws, agent, app, begins + interval '1 minute', begins + interval '10 minutes');
        END IF;
      END IF;
      PERFORM pg_temp.build(false, ws, ends, '{}',
        jsonb_build_object('reason', CASE WHEN n % 3 = 0 THEN 'initiator' ELSE 'autostop' END));
    END LOOP;
  END LOOP;
END $$;

-- Two more templates; one is in use, and activity moves its deadlines by less.
CREATE TEMP TABLE template AS SELECT gen_random_uuid() AS id, name FROM (VALUES ('scratch'), ('unused')) AS of (name);
SELECT pg_temp.copy('templates', model.template_id, jsonb_build_object('id', template.id, 'name', template.name,
  'display_name', template.name, 'activity_bump', 40 * 60 * 1000000000::bigint)) FROM pg_temp.model, pg_temp.template;

DO $$
DECLARE
  day interval := interval '1 day'; h interval := interval '1 hour'; m interval := interval '1 minute';
  week_ends timestamptz := '{now}'; limit_reached text := 'Claude is working, but past the keep-alive limit';
  autostop jsonb := '{"reason": "autostop"}'; by_hand jsonb := '{"reason": "initiator"}';
  ws uuid := gen_random_uuid(); t timestamptz; agent uuid; app uuid; agent2 uuid;
BEGIN
  PERFORM pg_temp.copy('workspaces', model.workspace_id, jsonb_build_object('id', ws, 'name', 'long',
    'created_at', week_ends - 8 * day, 'template_id', template.id, 'ttl', 2 * 3600 * 1000000000::bigint))
    FROM pg_temp.model, pg_temp.template WHERE template.name = 'scratch';

  -- Across the beginning of the period; its run ended before.
  t := week_ends - 7.2 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 11 * h, 3072), 6);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent), t + 10 * m, t + 4 * h);
  PERFORM pg_temp.build(false, ws, week_ends - 6.8 * day, '{}', by_hand);

  -- A run of many hours that was kept alive, and its deadline.
  t := week_ends - 6 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 8 * h + 40 * m, 3072), 7);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent), t + 30 * m, t + 8 * h);
  PERFORM pg_temp.build(false, ws, t + 8 * h + 40 * m, '{}', autostop);

  -- A run that ended before the first deadline. Somebody used it after that.
  t := week_ends - 5 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 5 * h, 3072), 8);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent), t + 10 * m, t + 100 * m);
  PERFORM pg_temp.build(false, ws, t + 5 * h, '{}', autostop);

  -- One that went on after the first deadline, but not after the one that activity at its beginning can have made.
  t := week_ends - 4 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 185 * m, 3072), 9);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent), t + 110 * m, t + 145 * m);
  PERFORM pg_temp.build(false, ws, t + 185 * m, '{}', autostop);

  -- One that reached the keep-alive limit.
  t := week_ends - 3.5 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 760 * m, 3072), 10);
  app := pg_temp.app(agent);
  PERFORM pg_temp.reports(ws, agent, app, t + 1 * m, t + 720 * m);
  PERFORM pg_temp.reports(ws, agent, app, t + 721 * m, t + 721 * m, 'idle', limit_reached);
  PERFORM pg_temp.build(false, ws, t + 760 * m, '{}', autostop);

  -- One that was stopped while working. The next start took over the app, so only samples know it.
  t := week_ends - 2.5 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 4 * h, 3072), 11);
  PERFORM pg_temp.build(false, ws, t + 4 * h, '{}', autostop);
  agent2 := pg_temp.agent(pg_temp.start(ws, t + 5 * h, t + 8 * h, 3072), 12);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent2), t + 5 * m, t + 4 * h);
  PERFORM pg_temp.build(false, ws, t + 6 * h, '{}', by_hand);

  -- One for which nobody knows what Claude did: no samples, and its app taken over by a start without a stop before it,
  -- as an update by the API does. In that one, two runs with a rest of eleven minutes.
  t := week_ends - 1.5 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, t + 2 * h, 3072), 13);
  agent := pg_temp.agent(pg_temp.start(ws, t + 3 * h, t + 8 * h, 2048), 14);
  app := pg_temp.app(agent);
  PERFORM pg_temp.reports(ws, agent, app, t + 3 * h + 10 * m, t + 3 * h + 20 * m);
  PERFORM pg_temp.reports(ws, agent, app, t + 3 * h + 31 * m, t + 3 * h + 40 * m);
  PERFORM pg_temp.build(false, ws, t + 8 * h, '{}', autostop);
  -- Stopped again by hand, which changes nothing.
  PERFORM pg_temp.build(false, ws, t + 9 * h, '{}', by_hand);

  -- A stop that fails, and two starts that are cancelled; for the second, Terraform says that it failed.
  t := week_ends - 0.8 * day;
  PERFORM pg_temp.app(pg_temp.agent(pg_temp.start(ws, t, t + 2 * h, 3072), 15));
  PERFORM pg_temp.build(false, ws, t + 2 * h, '{"error": "Error: no engine"}', by_hand);
  PERFORM pg_temp.start(ws, t + 3 * h, t + 4 * h, 3072, jsonb_build_object('canceled_at', t + 3 * h));
  PERFORM pg_temp.start(ws, t + 4 * h, t + 5 * h, 3072, jsonb_build_object('canceled_at', t + 4 * h,
    'error', 'terraform plan: exit status 1'));
  PERFORM pg_temp.build(false, ws, t + 5 * h, '{}', by_hand);

  -- Without a time limit there is no deadline, so nobody knows when it was last used. Its new start is not done yet.
  ws := gen_random_uuid();
  PERFORM pg_temp.copy('workspaces', model.workspace_id, jsonb_build_object('id', ws, 'name', 'timeless',
    'created_at', week_ends - 4 * day, 'ttl', NULL)) FROM pg_temp.model;
  t := week_ends - 4 * day;
  agent := pg_temp.agent(pg_temp.start(ws, t, '0001-01-01 00:00+00', 512), 20);
  PERFORM pg_temp.reports(ws, agent, pg_temp.app(agent), t + 10 * m, t + 9 * h);
  PERFORM pg_temp.build(false, ws, t + 1 * day, '{}', '{"reason": "dormancy"}');
  -- While its job is new, Coder does not consider it hung.
  PERFORM pg_temp.start(ws, week_ends - 5 * m, '0001-01-01 00:00+00', 512,
    jsonb_build_object('completed_at', NULL, 'updated_at', week_ends + 1 * h));
END $$;
