//! What more of something does to the rate.

use anyhow::{Context, Result};

use crate::args::{Axis, History, Plan, Scale};
use crate::case::Case;
use crate::figure::{Figure, print_json};
use crate::plot::{Series, svg};
use crate::product::{Deployment, push};
use crate::rig::Rig;

/// Bytes that a step of the payloads sends at most, so that large ones do not take for ever.
const MOST_BYTES: usize = 256 << 20;

/// Runs a step after the other; a line of JSON each, and a plot at the end.
///
/// # Errors
/// What a server says; a wrong or missing result; a plot that cannot be written.
pub async fn run(args: &Scale) -> Result<()> {
    let case = match args.axis {
        Axis::Backlog => Case::Drain,
        Axis::Workers | Axis::Payload => Case::Steady,
    };
    let rig = Rig::start()?;
    let mut figures = Vec::new();
    for (step, plan) in steps(args) {
        eprintln!("{:?} {step}", args.axis);
        let figure = case.compare(&rig, &plan, args.rounds).await?;
        print_json(
            &serde_json::json!({ "axis": format!("{:?}", args.axis), "step": step, "figure": figure }),
        )?;
        figures.push((step as f64, figure));
    }
    draw(args.svg.as_deref(), &format!("{:?}", args.axis), &figures)
}

fn steps(args: &Scale) -> Vec<(usize, Plan)> {
    let plan = args.plan;
    match args.axis {
        Axis::Workers => [1, 2, 4, 8]
            .map(|workers| (workers, Plan { workers, ..plan }))
            .into(),
        Axis::Payload => [100, 1_024, 16 * 1_024, 64 * 1_024, 256 * 1_024]
            .map(|payload| {
                let tasks = plan.tasks.min(MOST_BYTES / payload);
                (
                    payload,
                    Plan {
                        payload,
                        tasks,
                        ..plan
                    },
                )
            })
            .into(),
        Axis::Backlog => std::iter::successors(Some(10_000), |tasks| Some(tasks * 10))
            .take_while(|tasks| *tasks <= plan.tasks)
            .map(|tasks| (tasks, Plan { tasks, ..plan }))
            .collect(),
    }
}

fn draw(path: Option<&std::path::Path>, bottom: &str, figures: &[(f64, Figure)]) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let line = |name: &str, of: fn(&Figure) -> f64| Series {
        name: name.to_owned(),
        points: figures
            .iter()
            .map(|(step, figure)| (*step, of(figure)))
            .collect(),
    };
    let series = [
        line("goflow", |figure| figure.goflow.per_second.median),
        line("bare pipeline", |figure| figure.yardstick.per_second.median),
    ];
    let drawn = svg("Tasks a second", bottom, "tasks/s", &series);
    std::fs::write(path, drawn).with_context(|| format!("write {}", path.display()))
}

/// Runs tasks on top of more and more history, which SQL makes.
///
/// # Errors
/// As [`run`].
pub async fn history(args: &History) -> Result<()> {
    let rig = Rig::start()?;
    let mut deployment = Deployment::start(&rig, &args.plan, goflow::engine::Record::Full).await?;
    deployment.work().await?;
    let (mut rows, mut before, mut points) = (0, 0, Vec::new());
    for step in &args.rows {
        let missing = step.saturating_sub(rows);
        eprintln!("making {missing} rows of history");
        deployment
            .database
            .execute(&fill_sql(missing, args.plan.payload))?;
        // A history that grew over days was vacuumed long ago.
        deployment.database.execute("vacuum (analyze) gf_history")?;
        rig.administrate("checkpoint")?;
        rows = *step;
        let begun = std::time::Instant::now();
        push::windowed(&deployment.flow, &args.plan).await?;
        before += args.plan.tasks;
        deployment.watched.drained(before).await?;
        let per_second = args.plan.tasks as f64 / begun.elapsed().as_secs_f64();
        let page = deployment.page_times().await?;
        print_json(
            &serde_json::json!({ "history": step, "per_second": per_second, "page": page }),
        )?;
        points.push((*step as f64, per_second));
    }
    let wanted = rows + before;
    let found = deployment.database.execute("select count(*) from gf_history where type <> 'warm-up' and state = 'succeeded' and result = payload")?;
    anyhow::ensure!(
        found == wanted.to_string(),
        "{found} right results instead of {wanted}"
    );
    deployment.close().await?;
    if let Some(path) = &args.svg {
        let line = Series {
            name: "goflow".to_owned(),
            points,
        };
        std::fs::write(
            path,
            svg("Tasks a second", "rows of history", "tasks/s", &[line]),
        )?;
    }
    Ok(())
}

/// Rows as tasks would have left them in the last hours, of some types.
fn fill_sql(rows: usize, payload: usize) -> String {
    format!(
        "insert into gf_history (id, finished_at, started_at, attempt, attempt_limit, dispatch, crashes, max_attempts,
            class, state, namespace, queue, type, content_type, result_content_type, payload, result)
         select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3)
                || '8' || substr(md5(n::text), 4, 15))::uuid,
            at, at, 1, 3, 1, 0, 3, 7, 'succeeded', 'default', 'default', 'type-' || n % 20, 'text/plain', 'text/plain',
            payload, payload
         from (select n, now() - (n % 10000) * interval '1 s', convert_to(rpad(n::text, {payload}, 'p'), 'UTF8')
            from generate_series(1, {rows}) n) t (n, at, payload)"
    )
}
