//! Every category, found by the sidecar and by `compare` alike.

use laggard::compare::Category;

use super::rig::{Sidecar, compared};

struct Case {
    category: Category,
    service: &'static str,
    fast: &'static str,
    slow: &'static str,
}

const CASES: [Case; 9] = [
    Case {
        category: Category::OwnTime,
        service: "cart",
        fast: "
            web     server /cart 0..100
              web   client cart  10..90
                cart server /cart 12..88",
        slow: "
            web     server /cart 0..400
              web   client cart  10..390
                cart server /cart 12..388",
    },
    Case {
        category: Category::NetworkQueue,
        service: "cart",
        fast: "
            web     server /cart 0..100
              web   client cart  10..90
                cart server /cart 12..88",
        slow: "
            web     server /cart 0..400
              web   client cart  10..390
                cart server /cart 310..386",
    },
    Case {
        category: Category::Saturation,
        service: "web",
        fast: "
            web       server /all 0..100
              web     client a    10..30
                a     server /a   12..28
              web     client b    40..60
                b     server /b   42..58
              web     client c    70..90
                c     server /c   72..88",
        slow: "
            web       server /all 0..400
              web     client a    10..130
                a     server /a   12..28
              web     client b    140..260
                b     server /b   142..158
              web     client c    270..390
                c     server /c   272..288",
    },
    Case {
        category: Category::Dependency,
        service: "web",
        fast: "
            web   server /orders 0..100
              web client SELECT 10..90 db.system.name=postgresql server.address=db-1",
        slow: "
            web   server /orders 0..400
              web client SELECT 10..390 db.system.name=postgresql server.address=db-1",
    },
    Case {
        category: Category::ExtraCalls,
        service: "web",
        fast: "
            web   server /orders 0..100
              web client SELECT 10..90 db.system.name=postgresql",
        slow: "
            web   server /orders 0..420
              web client SELECT 10..90 db.system.name=postgresql
              web client SELECT 90..170 db.system.name=postgresql
              web client SELECT 170..250 db.system.name=postgresql
              web client SELECT 250..330 db.system.name=postgresql
              web client SELECT 330..410 db.system.name=postgresql",
    },
    Case {
        category: Category::Retry,
        service: "pay",
        fast: "
            web     server /buy 0..100
              web   client pay  10..90
                pay server /pay 12..88",
        slow: "
            web     server /buy 0..400
              web   client pay  10..310 error
                pay server /pay 12..308 error
              web   client pay  310..390
                pay server /pay 312..388",
    },
    Case {
        category: Category::Timeout,
        service: "pay",
        fast: "
            web     server /buy 0..100
              web   client pay  10..90
                pay server /pay 12..88",
        slow: "
            web     server /buy 0..1020
              web   client pay  10..1010 error",
    },
    Case {
        category: Category::NewPath,
        service: "catalog",
        fast: "
            catalog   server /item 0..20
              catalog client GET   5..10 db.system.name=redis",
        slow: "
            catalog   server /item 0..320
              catalog client GET   5..10 db.system.name=redis
              catalog client SELECT 12..312 db.system.name=postgresql",
    },
    Case {
        category: Category::LostConcurrency,
        service: "web",
        fast: "
            web          server /quote 0..120
              web        client quote  10..110
                shipping server /quote 12..108
              web        client quote  10..110
                shipping server /quote 12..108
              web        client quote  10..110
                shipping server /quote 12..108",
        slow: "
            web          server /quote 0..320
              web        client quote  10..110
                shipping server /quote 12..108
              web        client quote  110..210
                shipping server /quote 112..208
              web        client quote  210..310
                shipping server /quote 212..308",
    },
];

#[test]
fn every_category_is_found_by_the_sidecar() {
    for Case { category, service, fast, slow } in CASES {
        let culprit = Sidecar::taught(fast).culprit(slow);
        assert_eq!((culprit.service.as_str(), culprit.category), (service, category));
    }
}

#[test]
fn every_category_is_found_by_compare() {
    for Case { category, service, fast, slow } in CASES {
        let (answer, warnings) = compared(fast, slow);
        assert_eq!((&answer["service"], &answer["category"]), (&service.into(), &category.as_str().into()));
        assert_eq!(warnings, "");
    }
}

#[test]
fn the_figures_of_each_add_up() {
    for Case { category, fast, slow, .. } in CASES {
        let (answer, _) = compared(fast, slow);
        let sum = |key: &str| -> f64 {
            answer["services"].as_array().expect("a list").iter().filter_map(|row| row[key].as_f64()).sum()
        };
        let [fast, slow] =
            ["fast", "slow"].map(|which| answer[which]["duration_ms"].as_f64().expect("a number"));
        for (key, expected) in [("fast_ms", fast), ("slow_ms", slow), ("added_ms", slow - fast)] {
            assert!((sum(key) - expected).abs() < 1e-6, "{}: {key}", category.as_str());
        }
        let delta = answer["delta_ms"].as_f64().expect("a number");
        let share = answer["share"].as_f64().expect("a number");
        assert!((share - delta / (slow - fast)).abs() < 1e-9, "{}", category.as_str());
        for row in answer["services"].as_array().expect("a list") {
            let [before, after, added] =
                ["fast_ms", "slow_ms", "added_ms"].map(|key| row[key].as_f64().expect("a number"));
            assert!((after - before - added).abs() < 1e-6, "{}: {row}", category.as_str());
        }
    }
}
