//! Elections in the store: the set-up writes them once, everything else reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use scrutin_contract::election::{Choice, Election, Region};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, GenericClient, Row};

use super::StoreError;
use super::time::time;

/// Saves an election. Needs the owner's session. Saving an unchanged election does nothing.
///
/// Presentation (names, colours, places on a map) can change at any time. The rules that decide how votes are counted,
/// which the fingerprint covers, are frozen once a counter counts the election. No counter can be created while this
/// runs; [`counters::enter`](super::counters::enter) checks that the election it read earlier has not changed.
///
/// # Errors
///
/// If the election is invalid, if its rules changed while a counter counts it, or if a query fails.
pub async fn save(client: &mut Client, election: &Election) -> Result<(), StoreError> {
    election.check().map_err(StoreError::Unusable)?;
    let failed = StoreError::during("save the election");
    let transaction = client.transaction().await.map_err(&failed)?;
    // Readers of both tables are not blocked; a counter about to be created waits.
    transaction.batch_execute("LOCK TABLE counter, election IN SHARE ROW EXCLUSIVE MODE").await.map_err(&failed)?;
    let query = format!("{SELECT} WHERE election = $1");
    let stored = transaction.query_opt(&query, &[&election.id]).await.map_err(&failed)?;
    if let Some(row) = &stored {
        let stored = read(&transaction, row).await?;
        if stored == *election {
            return Ok(());
        }
        if stored.fingerprint() != election.fingerprint() {
            let query = "SELECT counter FROM counter WHERE $1 = ANY (elections) ORDER BY counter LIMIT 1";
            if let Some(row) = transaction.query_opt(query, &[&election.id]).await.map_err(&failed)? {
                return Err(StoreError::Unusable(format!(
                    "election `{}` is being counted by `{}`, so its times, channels, regions, choices and bucket can \
                     no longer change; give the changed election another id, or count into another database",
                    election.id,
                    row.get::<_, String>(0)
                )));
            }
        }
    }
    let upsert = "
        INSERT INTO election (election, title, opens_at, closes_at, time_zone, channels, bucket_seconds, fingerprint,
                              expected_turnout)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (election) DO UPDATE
           SET title = excluded.title, opens_at = excluded.opens_at, closes_at = excluded.closes_at,
               time_zone = excluded.time_zone, channels = excluded.channels,
               bucket_seconds = excluded.bucket_seconds, fingerprint = excluded.fingerprint,
               expected_turnout = excluded.expected_turnout, loaded_at = now()";
    let values: [&(dyn ToSql + Sync); 9] = [
        &election.id,
        &election.title,
        &time(election.opens_at_ms),
        &time(election.closes_at_ms),
        &election.time_zone,
        &election.channels,
        &narrow::<_, i32>(election.bucket_seconds, "bucket_seconds")?,
        &election.fingerprint(),
        &election.expected_turnout,
    ];
    transaction.execute(upsert, &values).await.map_err(&failed)?;
    for table in ["region", "choice"] {
        let delete = format!("DELETE FROM {table} WHERE election = $1");
        transaction.execute(&delete, &[&election.id]).await.map_err(&failed)?;
    }
    insert_regions(&transaction, election).await?;
    insert_choices(&transaction, election).await?;
    transaction.commit().await.map_err(&failed)?;
    // Autovacuum would do this a minute later; until then the planner would assume almost no regions and candidates.
    client.batch_execute("ANALYZE election, region, choice").await.map_err(StoreError::during("analyze the election"))
}

/// Loads all elections, ordered by id; regions and choices keep the order of their files.
///
/// # Errors
///
/// If a query fails or a stored value is out of range.
pub async fn load_all(client: &impl GenericClient) -> Result<Vec<Election>, StoreError> {
    let query = format!("{SELECT} ORDER BY election COLLATE \"C\"");
    let rows = client.query(&query, &[]).await.map_err(StoreError::during("read the elections"))?;
    let mut elections = Vec::with_capacity(rows.len());
    for row in &rows {
        elections.push(read(client, row).await?);
    }
    Ok(elections)
}

const SELECT: &str =
    "SELECT election, title, opens_at, closes_at, time_zone, channels, bucket_seconds, expected_turnout FROM election";

async fn insert_regions(client: &impl GenericClient, election: &Election) -> Result<(), StoreError> {
    let regions = &election.regions;
    let mut registered = Vec::with_capacity(regions.len());
    for region in regions {
        registered.push(region.registered.map(|number| narrow::<_, i64>(number, "registered")).transpose()?);
    }
    let code: Vec<&str> = regions.iter().map(|region| region.code.as_str()).collect();
    let name: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
    let lat: Vec<Option<f64>> = regions.iter().map(|region| region.point.map(|point| point.0)).collect();
    let lon: Vec<Option<f64>> = regions.iter().map(|region| region.point.map(|point| point.1)).collect();
    let col: Vec<Option<i32>> = regions.iter().map(|region| region.tile.map(|tile| tile.0)).collect();
    let row: Vec<Option<i32>> = regions.iter().map(|region| region.tile.map(|tile| tile.1)).collect();
    let turnout: Vec<Option<f64>> = regions.iter().map(|region| region.expected_turnout).collect();
    let ballots = election.ballots();
    let lines = code.iter().zip(&ballots).flat_map(|(region, ballot)| ballot.iter().map(|choice| (*region, *choice)));
    let (line_region, line_choice): (Vec<&str>, Vec<&str>) = lines.unzip();
    let insert = "
        INSERT INTO region (election, region, name, registered, lat, lon, grid_col, grid_row, expected_turnout, place, ballot)
        SELECT $1, t.*, b.ballot
          FROM unnest($2::text[], $3::text[], $4::int8[], $5::float8[], $6::float8[], $7::int4[], $8::int4[], $9::float8[])
               WITH ORDINALITY AS t (region)
          JOIN (SELECT region, array_agg(choice ORDER BY line) AS ballot
                  FROM unnest($10::text[], $11::text[]) WITH ORDINALITY AS u (region, choice, line)
                 GROUP BY region) b USING (region)";
    let values: [&(dyn ToSql + Sync); 11] =
        [&election.id, &code, &name, &registered, &lat, &lon, &col, &row, &turnout, &line_region, &line_choice];
    client.execute(insert, &values).await.map_err(StoreError::during("save the regions"))?;
    Ok(())
}

async fn insert_choices(client: &impl GenericClient, election: &Election) -> Result<(), StoreError> {
    let choices = &election.choices;
    let code: Vec<&str> = choices.iter().map(|choice| choice.code.as_str()).collect();
    let region: Vec<&str> = choices.iter().map(|choice| choice.region.as_deref().unwrap_or_default()).collect();
    let name: Vec<&str> = choices.iter().map(|choice| choice.name.as_str()).collect();
    let color: Vec<&str> = choices.iter().map(|choice| choice.color.as_str()).collect();
    let insert = "
        INSERT INTO choice (election, choice, region, name, color, place)
        SELECT $1, t.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY t";
    let values: [&(dyn ToSql + Sync); 5] = [&election.id, &code, &region, &name, &color];
    client.execute(insert, &values).await.map_err(StoreError::during("save the choices"))?;
    Ok(())
}

async fn read(client: &impl GenericClient, row: &Row) -> Result<Election, StoreError> {
    let failed = StoreError::during("read the election");
    let id: String = get(row, 0)?;
    let query = "SELECT region, name, registered, lat, lon, grid_col, grid_row, expected_turnout FROM region
                  WHERE election = $1 ORDER BY place";
    let mut regions = Vec::new();
    for row in client.query(query, &[&id]).await.map_err(&failed)? {
        let lat: Option<f64> = get(&row, 3)?;
        let col: Option<i32> = get(&row, 5)?;
        regions.push(Region {
            code: get(&row, 0)?,
            name: get(&row, 1)?,
            registered: get::<Option<i64>>(&row, 2)?.map(|number| narrow(number, "registered")).transpose()?,
            point: lat.zip(get(&row, 4)?),
            tile: col.zip(get(&row, 6)?),
            expected_turnout: get(&row, 7)?,
        });
    }
    let query = "SELECT choice, region, name, color FROM choice WHERE election = $1 ORDER BY place";
    let mut choices = Vec::new();
    for row in client.query(query, &[&id]).await.map_err(&failed)? {
        let region: String = get(&row, 1)?;
        let region = Some(region).filter(|region| !region.is_empty());
        choices.push(Choice { code: get(&row, 0)?, name: get(&row, 2)?, color: get(&row, 3)?, region });
    }
    Ok(Election {
        id,
        title: get(row, 1)?,
        opens_at_ms: millis(get(row, 2)?)?,
        closes_at_ms: millis(get(row, 3)?)?,
        time_zone: get(row, 4)?,
        channels: get(row, 5)?,
        bucket_seconds: narrow(get::<i32>(row, 6)?, "bucket_seconds")?,
        expected_turnout: get(row, 7)?,
        regions,
        choices,
    })
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, StoreError> {
    row.try_get(place).map_err(StoreError::during("read the election"))
}

fn narrow<T: Copy + std::fmt::Display, U: TryFrom<T>>(number: T, name: &str) -> Result<U, StoreError> {
    U::try_from(number).map_err(|_| {
        StoreError::Unusable(format!("{name} is {number}, which is out of range for its column in PostgreSQL"))
    })
}

fn millis(time: SystemTime) -> Result<i64, StoreError> {
    let (distance, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(before) => (before.duration(), -1),
    };
    Ok(sign * narrow::<u128, i64>(distance.as_millis(), "a time")?)
}
