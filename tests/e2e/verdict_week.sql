-- A week for the verdict's test, made by copying the rows of a real start and a real autostop: {workspaces} workspaces
-- with {pairs} starts and stops each, some of them failed or with a run of Claude.
CREATE FUNCTION pg_temp.copy(source text, key uuid, changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE names text;
BEGIN
  SELECT string_agg(quote_ident(column_name), ', ') INTO names FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = source AND is_generated = 'NEVER';
  EXECUTE format('INSERT INTO public.%I (%s) SELECT %s FROM jsonb_populate_record(NULL::public.%I,
    (SELECT to_jsonb(t) FROM public.%I t WHERE id = $1) || $2)', source, names, names, source, source)
    USING key, changes;
END $$;
DO $$
DECLARE
  model record; script record; stopped record; w int; n int; begins timestamptz; ends timestamptz; fails bool;
  ws uuid; job uuid; build uuid; resource uuid; agent uuid; app uuid; number int; minute int; step interval;
BEGIN
  SELECT wb.id, wb.job_id, wb.workspace_id, wr.id AS resource, wa.id AS agent, app.id AS app INTO model
    FROM workspace_builds wb JOIN workspaces w ON w.id = wb.workspace_id AND w.name = 'parked'
    JOIN workspace_resources wr ON wr.job_id = wb.job_id JOIN workspace_agents wa ON wa.resource_id = wr.id
    JOIN workspace_apps app ON app.agent_id = wa.id WHERE wb.build_number = 1;
  SELECT wb.id, wb.job_id INTO stopped FROM workspace_builds wb
    WHERE wb.workspace_id = model.workspace_id AND wb.build_number = 2;
  step := interval '7.5 days' / {pairs};
  FOR w IN 1..{workspaces} LOOP
    ws := gen_random_uuid();
    number := 0;
    PERFORM pg_temp.copy('workspaces', model.workspace_id, jsonb_build_object('id', ws, 'name', 'old-' || w,
      'created_at', now() - interval '7.6 days'));
    FOR n IN 0..{pairs} - 1 LOOP
      begins := now() - interval '7.6 days' + n * step + w * interval '3 minutes';
      ends := begins + step * (0.2 + 0.1 * w);
      fails := n % 25 = 7;
      number := number + 1;
      job := gen_random_uuid(); build := gen_random_uuid(); resource := gen_random_uuid(); agent := gen_random_uuid();
      app := gen_random_uuid();
      PERFORM pg_temp.copy('provisioner_jobs', model.job_id, jsonb_build_object('id', job, 'created_at', begins,
        'started_at', begins, 'completed_at', begins + interval '3 seconds',
        'error', CASE WHEN fails THEN 'Error: a reason that was made up' END));
      PERFORM pg_temp.copy('workspace_builds', model.id, jsonb_build_object('id', build, 'job_id', job,
        'workspace_id', ws, 'build_number', number, 'created_at', begins, 'deadline', ends));
      INSERT INTO workspace_build_parameters
        SELECT build, name, CASE WHEN name = 'memory_mb' THEN (1024 * w)::text ELSE value END
        FROM workspace_build_parameters WHERE workspace_build_id = model.id;
      IF NOT fails THEN
        PERFORM pg_temp.copy('workspace_resources', model.resource, jsonb_build_object('id', resource, 'job_id', job));
        PERFORM pg_temp.copy('workspace_agents', model.agent, jsonb_build_object('id', agent, 'resource_id', resource,
          'auth_token', gen_random_uuid(), 'created_at', begins, 'first_connected_at', begins + interval '3 seconds',
          'started_at', begins + interval '4 seconds',
          'ready_at', begins + (5 + (n * 7 + w) % 11) * interval '1 second'));
        PERFORM pg_temp.copy('workspace_apps', model.app, jsonb_build_object('id', app, 'agent_id', agent));
        FOR script IN SELECT id, log_source_id FROM workspace_agent_scripts WHERE workspace_agent_id = model.agent LOOP
          PERFORM pg_temp.copy('workspace_agent_scripts', script.id, jsonb_build_object('id', gen_random_uuid(),
            'workspace_agent_id', agent));
        END LOOP;
        IF w = 1 AND n % 25 = 9 THEN
          -- A run of nine minutes; every second time until the autostop.
          FOR minute IN 0..9 LOOP
            INSERT INTO workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message, uri)
              VALUES (gen_random_uuid(), CASE WHEN n % 50 = 9 THEN ends ELSE begins + interval '10 minutes' END
                - minute * interval '1 minute', agent, app, ws, 'working', 'Claude is working', '');
          END LOOP;
        END IF;
      END IF;
      number := number + 1;
      job := gen_random_uuid();
      PERFORM pg_temp.copy('provisioner_jobs', stopped.job_id, jsonb_build_object('id', job, 'created_at', ends,
        'started_at', ends, 'completed_at', ends + interval '2 seconds', 'error', NULL));
      PERFORM pg_temp.copy('workspace_builds', stopped.id, jsonb_build_object('id', gen_random_uuid(), 'job_id', job,
        'workspace_id', ws, 'build_number', number, 'created_at', ends,
        'reason', CASE WHEN n % 3 = 0 THEN 'initiator' ELSE 'autostop' END));
    END LOOP;
  END LOOP;
END $$;
