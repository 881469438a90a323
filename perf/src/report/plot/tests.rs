//! What is drawn is well-formed and shows what was measured.

use super::super::fixtures;
use super::*;

#[test]
fn a_run_makes_the_pictures_its_measurements_are_good_for() {
    let charts = choose::charts(&fixtures::run().measurements);
    let names: Vec<&str> = charts.iter().map(|chart| &*chart.name).collect();
    assert_eq!(names, ["cycles", "latency-50", "throughput", "update", "scale"]);
    assert_eq!(choose::charts(&[]), []);
}

#[test]
fn lines_are_told_apart_by_what_does_not_vary() {
    let charts = choose::charts(&fixtures::run().measurements);
    let Form::Lines { ticks, series, .. } = &charts[0].form else { panic!("{charts:?}") };
    assert_eq!(ticks, &["1", "10k", "1M"]);
    let names: Vec<&str> = series.iter().map(|line| &*line.name).collect();
    assert_eq!(names, ["established/udp4/uniform", "floor"]);
    assert!(series[1].reference && !series[0].reference);
    let (tick, value) = series[0].points[2];
    assert_eq!(tick, 2);
    assert_eq!(value, Value { median: 141.0, low: 139.0, high: 150.0, target: Some(130.0) });
    let Form::Lines { ticks, .. } = &charts[1].form else { panic!("{charts:?}") };
    assert_eq!(ticks, &["p50", "p99"]);
    let Form::Lines { ticks, .. } = &charts[3].form else { panic!("{charts:?}") };
    assert_eq!(ticks, &["10000x25", "50000x25"]);
    let Form::Lines { ticks, series, .. } = &charts[4].form else { panic!("{charts:?}") };
    assert_eq!(ticks, &["0%", "100%"]);
    assert_eq!(series[0].name, "10k/2-workers");
}

#[test]
fn percentiles_and_counts_are_found_wherever_they_are_told() {
    let mut run = fixtures::run();
    run.measurements.retain(|m| m.suite == "wire" && m.unit == "us");
    for m in &mut run.measurements {
        m.case = format!(
            "{}/{}",
            m.case,
            m.metric.replace("latency_p99", "p99.9").replace("latency_", "")
        );
        m.metric = "latency".into();
    }
    let charts = choose::charts(&run.measurements);
    let Form::Lines { ticks, series, .. } = &charts[0].form else { panic!("{charts:?}") };
    assert_eq!(ticks, &["p50", "p99.9"]);
    assert_eq!(series[0].name, "latency/10k/vipgate");
    assert!(series[1].reference, "{series:?}");
}

#[test]
fn pictures_are_well_formed_and_name_their_series() {
    let folder = tempfolder();
    let run = fixtures::run();
    let files = draw(&run, &folder).expect("pictures");
    assert_eq!(files.len(), 5);
    for file in &files {
        let svg = fs::read_to_string(file).expect("a picture");
        well_formed(&svg);
        assert!(svg.contains("commit 0123456"), "{}", file.display());
        assert!(svg.contains("Example CPU &lt;8&gt; &amp; more"), "{}", file.display());
    }
    let svg = fs::read_to_string(folder.join("cycles.svg")).expect("a picture");
    for text in ["established/udp4/uniform", "floor", "connections", "10k", "target"] {
        assert!(svg.contains(text), "{text}");
    }
    let svg = fs::read_to_string(folder.join("throughput.svg")).expect("a picture");
    for text in ["zero-loss/10k", "0.92", "0.74", "ratio (more is better)"] {
        assert!(svg.contains(text), "{text}");
    }
    fs::remove_dir_all(&folder).expect("a folder");
}

#[test]
fn a_value_of_nothing_is_drawn_as_well() {
    let zero = Value { median: 0.0, low: 0.0, high: 0.0, target: None };
    let bars = Form::Bars(vec![Bar { name: "lost".into(), value: zero }]);
    let points = vec![(0, zero), (1, zero)];
    let line = Line { name: "lost".into(), reference: false, points };
    let ticks = vec!["1".into(), "2".into()];
    for form in [bars, Form::Lines { over: "x".into(), ticks, series: vec![line] }] {
        let text = || "text".to_owned();
        let chart = Chart { name: text(), title: text(), values: text(), form };
        well_formed(&chart.svg("caption").expect("a picture"));
    }
}

fn tempfolder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("vipgate-plots-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Every element is closed in order, no text has a bare `<` or `&`, no number is NaN.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("an element ends");
        for entity in text.split('&').skip(1) {
            let known = ["lt;", "gt;", "amp;", "quot;", "apos;", "#39;", "#x27;"];
            assert!(known.iter().any(|known| entity.starts_with(known)), "{text}");
        }
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap_or_default();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, false) => open.push(name),
            (false, true) => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(svg.starts_with("<svg"));
}
