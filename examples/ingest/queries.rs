//! The questions, answered from one snapshot of the engine, and how the answers are shown.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anabranch::{Error, Snapshot};
use indicatif::HumanCount;
use tokio::time::Instant;

use crate::flights::{Route, Value};

/// How many routes and airports are shown.
const TOP: usize = 10;
/// How many flights of the day are shown. The answers file has them all.
const FLIGHTS_SHOWN: usize = 10;

type View = Snapshot<String, Value>;

/// What the engine answered.
pub(crate) struct Answers {
    /// The busiest routes, by their flights; origin and destination first.
    routes: Vec<(String, Route)>,
    routes_elapsed: Duration,
    /// The airports with the most departures, and the sum over their flights.
    airports: Vec<(String, Route)>,
    airports_elapsed: Duration,
    /// One airport's departures on one day, in order of time.
    airport: String,
    day: String,
    departures: Vec<Departure>,
    departures_elapsed: Duration,
    /// Over all routes: how many there are, and what they add up to.
    routes_count: usize,
    all: Route,
}

struct Departure {
    time: String,
    destination: String,
    delay: i32,
    distance: u32,
}

impl Answers {
    /// Asks everything. `None` if there are no flights.
    pub(crate) fn ask(
        view: &View,
        airport: Option<String>,
        day: Option<String>,
    ) -> Result<Option<Self>, Error> {
        let started = Instant::now();
        let mut routes = all_routes(view)?;
        let (routes_count, mut all) = (routes.len(), Route::EMPTY);
        let mut origins = BTreeMap::new();
        for (name, route) in &routes {
            all.add(*route);
            let origin = name.split('/').next().unwrap_or_default();
            *origins.entry(origin.to_owned()).or_insert(0) += route.flights;
        }
        routes.sort_by_key(|(_, route)| Reverse(route.flights)); // stable: ties stay in order of name
        routes.truncate(TOP);
        let routes_elapsed = started.elapsed();

        let started = Instant::now();
        let mut largest: Vec<(String, u64)> = origins.into_iter().collect();
        largest.sort_by_key(|(_, flights)| Reverse(*flights));
        largest.truncate(TOP);
        let airports =
            largest.into_iter().map(|(origin, _)| Ok((origin.clone(), departures_of(view, &origin)?)));
        let airports = airports.collect::<Result<Vec<_>, Error>>()?;
        let airports_elapsed = started.elapsed();

        let Some(airport) = airport.or_else(|| airports.first().map(|(airport, _)| airport.clone())) else {
            return Ok(None);
        };
        let day = match day {
            Some(day) => day,
            None => first_day_of(view, &airport)?,
        };
        let started = Instant::now();
        let departures = departures_on(view, &airport, &day)?;
        let departures_elapsed = started.elapsed();
        Ok(Some(Self {
            routes,
            routes_elapsed,
            airports,
            airports_elapsed,
            airport,
            day,
            departures,
            departures_elapsed,
            routes_count,
            all,
        }))
    }

    /// For people.
    pub(crate) fn print(&self) {
        println!(
            "\nThe busiest of {} routes ({:.1?})",
            HumanCount(self.routes_count as u64),
            self.routes_elapsed
        );
        println!("  route      flights   mean delay   worst delay");
        for (name, route) in &self.routes {
            let (name, flights) = (name.replace('/', "-"), HumanCount(route.flights).to_string());
            println!("  {name}  {flights:>8}  {:>7.1} min  {:>8} min", route.mean_delay(), route.delay_worst);
        }

        println!(
            "\nThe mean delay at the largest airports, over all their departures ({:.1?})",
            self.airports_elapsed
        );
        println!("  origin   departures   mean delay");
        for (airport, sum) in &self.airports {
            let flights = HumanCount(sum.flights).to_string();
            println!("  {airport}  {flights:>13}  {:>7.1} min", sum.mean_delay());
        }

        let (airport, day, flights) = (&self.airport, &self.day, self.departures.len());
        println!("\nFrom {airport} on {day}: {flights} flights ({:.1?})", self.departures_elapsed);
        for departure in self.departures.iter().take(FLIGHTS_SHOWN) {
            let Departure { time, destination, delay, distance } = departure;
            let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock);
            println!("  {clock}  to {destination}  {distance:>5} miles  {delay:>+4} min");
        }
        if flights > FLIGHTS_SHOWN {
            println!("  … and {} more", flights - FLIGHTS_SHOWN);
        }
    }

    /// For programs: a word that says what the line is, then its fields, delays in minutes.
    ///
    /// ```text
    /// flights COUNT                                     by a scan of all flights
    /// routes COUNT FLIGHTS TOTAL_DELAY                  what all routes add up to
    /// route ORIGIN DESTINATION FLIGHTS TOTAL_DELAY WORST_DELAY
    /// airport ORIGIN FLIGHTS TOTAL_DELAY
    /// day ORIGIN DAY FLIGHTS
    /// flight TIME DESTINATION DELAY DISTANCE
    /// ```
    pub(crate) fn to_text(&self, view: &View) -> Result<String, Error> {
        let flights = view.prefix("flight/").try_fold(0_u64, |count, entry| entry.map(|_| count + 1))?;
        let mut text = format!("flights {flights}\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            let written = text.write_fmt(line);
            written.expect("writing to a String can't fail");
            text.push('\n');
        };
        line(format_args!("routes {} {} {}", self.routes_count, self.all.flights, self.all.delay_total));
        for (name, Route { flights, delay_total, delay_worst }) in &self.routes {
            line(format_args!("route {} {flights} {delay_total} {delay_worst}", name.replace('/', " ")));
        }
        for (airport, Route { flights, delay_total, .. }) in &self.airports {
            line(format_args!("airport {airport} {flights} {delay_total}"));
        }
        line(format_args!("day {} {} {}", self.airport, self.day, self.departures.len()));
        for Departure { time, destination, delay, distance } in &self.departures {
            line(format_args!("flight {time} {destination} {delay} {distance}"));
        }
        Ok(text)
    }
}

/// All routes, by name.
fn all_routes(view: &View) -> Result<Vec<(String, Route)>, Error> {
    let mut routes = Vec::new();
    for entry in view.prefix("route/") {
        let (key, value) = entry?;
        if let Value::Route(route) = *value {
            routes.push((key["route/".len()..].to_owned(), route));
        }
    }
    Ok(routes)
}

/// What an airport's flights add up to, from the flights themselves.
fn departures_of(view: &View, origin: &str) -> Result<Route, Error> {
    let mut sum = Route::EMPTY;
    for entry in view.prefix(format!("flight/{origin}/").as_str()) {
        if let Value::Flight { delay, .. } = *entry?.1 {
            sum.add(Route { flights: 1, delay_total: delay.into(), delay_worst: delay });
        }
    }
    Ok(sum)
}

fn first_day_of(view: &View, origin: &str) -> Result<String, Error> {
    let first = view.prefix(format!("flight/{origin}/").as_str()).next().transpose()?;
    let day = first.and_then(|(key, _)| Some(time_of(&key)?.split_once('T')?.0.to_owned()));
    Ok(day.unwrap_or_default())
}

fn departures_on(view: &View, origin: &str, day: &str) -> Result<Vec<Departure>, Error> {
    let day = format!("flight/{origin}/{day}T00:00")..format!("flight/{origin}/{day}T24:00");
    let mut departures = Vec::new();
    for entry in view.range(day) {
        let (key, value) = entry?;
        if let (Some(time), Value::Flight { destination, delay, distance }) = (time_of(&key), &*value) {
            let (time, destination) = (time.to_owned(), destination.clone());
            departures.push(Departure { time, destination, delay: *delay, distance: *distance });
        }
    }
    Ok(departures)
}

/// The time in a flight's key.
fn time_of(key: &str) -> Option<&str> {
    key.split('/').nth(2)
}
