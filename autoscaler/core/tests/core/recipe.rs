//! What a member is made of.

use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::observe::Member;
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::recipe::{Image, Recipe};
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::support::{member, seen, steps_of, watched};

#[test]
fn an_image_is_written_by_all_its_names_and_read_again() {
    for text in ["", "api", "9001", "api (9001)", "debian-12-x64 (1)"] {
        assert_eq!(Image::from(text).to_string(), text);
    }
    for odd in ["api (x)", "(1)", " (1)", "api (1", "18446744073709551616", "-1"] {
        let image = Image::from(odd);
        let again = Image::from(image.to_string());
        assert_eq!(again, image, "{odd}");
        assert!(again.is(&image) || image.slug.is_none(), "{odd}");
    }
}

#[test]
fn an_image_is_another_by_its_number_and_without_one_by_its_slug() {
    let table = [
        ("api (9001)", "9001", true),
        ("api (9001)", "api", true),
        ("api", "api", true),
        ("9001", "9001", true),
        ("api (9001)", "9002", false),
        // A slug that was given to a newer image.
        ("api (9001)", "api (9002)", false),
        ("9001", "api", false),
        ("", "", false),
        ("", "api", false),
    ];
    for (one, other, same) in table {
        let (left, right) = (Image::from(one), Image::from(other));
        assert_eq!(
            (left.is(&right), right.is(&left)),
            (same, same),
            "{one:?} and {other:?}"
        );
    }
}

/// A droplet is listed with its image's slug and number, and a pool may name it by either.
#[test]
fn a_member_of_the_pools_image_is_not_the_first_victim_for_how_the_image_is_named() {
    for configured in ["9001", "api"] {
        let spec = PoolSpec {
            min: 1,
            max: 2,
            recipe: Recipe {
                image: configured.into(),
                ..Recipe::default()
            },
            ..crate::support::spec()
        };
        let of = |n, image: &str| Member {
            image: image.into(),
            ..member(n)
        };
        let all = vec![of(1, "api (9001)"), of(2, "old (8000)"), of(3, "api (9001)")];
        let seen = seen(all, &[]);
        let memory = watched().observe(&spec, &seen);
        let decision = decide(&spec, &seen, &memory, Control::Auto);
        let plan = plan(&spec, &seen, &memory, &decision);
        assert_eq!(
            steps_of(&plan),
            ["mark_draining api-2", "withdraw api-2"],
            "{configured}"
        );
    }
}
