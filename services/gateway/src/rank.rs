//! What the candidates of a request are ordered by. The formulas are those of `easel.v1.RankBy`.

use easel_proto::v1::RankBy;

/// What the sampler says of a candidate's drawn tokens: Σ ln p, nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Likelihood {
    /// With the caption.
    pub(crate) conditional: f64,
    /// Without it; none without guidance.
    pub(crate) unconditional: Option<f64>,
}

/// What is known of a complete candidate that it can be ordered by. What an order looks at is never missing; it would count as 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) clip_score: Option<f32>,
    pub(crate) likelihood: Likelihood,
    /// Tokens drawn.
    pub(crate) drawn: u32,
}

/// An order of candidates, with all that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Clip,
    Likelihood,
    CaptionGain,
    ClipAndLikelihood,
    ClipAndGain,
}

/// A number of one candidate.
#[derive(Clone, Copy)]
enum Term {
    Clip,
    Likelihood,
    Gain,
}

impl Term {
    fn of(self, facts: &Facts) -> f64 {
        let Likelihood { conditional, unconditional } = facts.likelihood;
        let mean = |nats: f64| nats / f64::from(facts.drawn.max(1));
        match self {
            Self::Clip => facts.clip_score.map_or(0.0, f64::from),
            Self::Likelihood => mean(conditional),
            Self::Gain => unconditional.map_or(0.0, |unconditional| mean(conditional - unconditional)),
        }
    }
}

impl Order {
    /// The order that is asked for, where there is something to rank by. `clip`: a score of CLIP is to be had; `guided`: the likelihood without the
    /// caption is.
    ///
    /// # Errors
    /// What the order would need.
    pub(crate) fn of(asked: RankBy, clip: bool, guided: bool) -> Result<Option<Self>, &'static str> {
        match asked {
            RankBy::Unspecified => Ok(clip.then_some(Self::Clip)),
            RankBy::Clip | RankBy::Both if !clip => Err("needs a package with CLIP, and a prompt"),
            RankBy::CaptionGain if !guided => Err("needs a guidance_scale other than 1"),
            RankBy::Clip => Ok(Some(Self::Clip)),
            RankBy::Likelihood => Ok(Some(Self::Likelihood)),
            RankBy::CaptionGain => Ok(Some(Self::CaptionGain)),
            RankBy::Both if guided => Ok(Some(Self::ClipAndGain)),
            RankBy::Both => Ok(Some(Self::ClipAndLikelihood)),
        }
    }

    /// As the caller is told.
    pub(crate) fn told(self) -> RankBy {
        match self {
            Self::Clip => RankBy::Clip,
            Self::Likelihood => RankBy::Likelihood,
            Self::CaptionGain => RankBy::CaptionGain,
            Self::ClipAndLikelihood | Self::ClipAndGain => RankBy::Both,
        }
    }

    /// Whether it looks at the likelihood without the caption.
    pub(crate) fn needs_unconditional(self) -> bool {
        matches!(self, Self::CaptionGain | Self::ClipAndGain)
    }

    fn terms(self) -> &'static [Term] {
        match self {
            Self::Clip => &[Term::Clip],
            Self::Likelihood => &[Term::Likelihood],
            Self::CaptionGain => &[Term::Gain],
            Self::ClipAndLikelihood => &[Term::Clip, Term::Likelihood],
            Self::ClipAndGain => &[Term::Clip, Term::Gain],
        }
    }

    /// The score of a candidate; none when it takes all of them to tell it.
    pub(crate) fn score(self, facts: &Facts) -> Option<f64> {
        match self.terms() {
            [term] => Some(term.of(facts)),
            _ => None,
        }
    }

    /// The scores of all candidates of a request.
    pub(crate) fn scores(self, candidates: &[Facts]) -> Vec<f64> {
        if let [term] = self.terms() {
            return candidates.iter().map(|facts| term.of(facts)).collect();
        }
        let mut sums = vec![0.0; candidates.len()];
        for term in self.terms() {
            let values: Vec<f64> = candidates.iter().map(|facts| term.of(facts)).collect();
            sums.iter_mut().zip(standard(&values)).for_each(|(sum, z)| *sum += z);
        }
        sums
    }
}

/// (x − mean) / standard deviation; 0 where all are equal.
fn standard(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    if values.iter().all(|value| *value == values[0]) {
        return vec![0.0; values.len()];
    }
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    values.iter().map(|value| (value - mean) / deviation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(clip_score: f32, conditional: f64, unconditional: f64) -> Facts {
        let likelihood = Likelihood { conditional, unconditional: Some(unconditional) };
        Facts { clip_score: Some(clip_score), likelihood, drawn: 4 }
    }

    #[test]
    fn a_score_is_a_mean_over_the_tokens_drawn() {
        let one = facts(0.25, -8.0, -14.0);
        assert_eq!(Order::Clip.score(&one), Some(0.25));
        assert_eq!(Order::Likelihood.score(&one), Some(-2.0));
        assert_eq!(Order::CaptionGain.score(&one), Some(1.5));
        assert_eq!(Order::ClipAndGain.score(&one), None);
        assert_eq!(Order::CaptionGain.scores(&[one, facts(0.0, -4.0, -4.0)]), [1.5, 0.0]);
    }

    #[test]
    fn two_criteria_count_alike_whatever_their_units() {
        let candidates = [facts(0.2, -40.0, -44.0), facts(0.4, -80.0, -92.0), facts(0.3, -60.0, -60.0)];
        let z = 1.5f64.sqrt();
        let near = |scores: Vec<f64>, expected: [f64; 3]| {
            assert!(scores.iter().zip(expected).all(|(score, expected)| (score - expected).abs() < 1e-6), "{scores:?}");
        };
        near(Order::ClipAndLikelihood.scores(&candidates), [0.0, 0.0, 0.0]);
        // Gains of 1, 3 and 0 nats a token.
        let [mean, deviation] = [4.0 / 3.0, 14.0f64.sqrt() / 3.0];
        let gains = [1.0, 3.0, 0.0].map(|gain| (gain - mean) / deviation);
        near(Order::ClipAndGain.scores(&candidates), [gains[0] - z, gains[1] + z, gains[2]]);
    }

    #[test]
    fn what_is_equal_for_all_does_not_count() {
        let candidates = [facts(0.1, -4.0, -4.0), facts(0.1, -8.0, -4.0)];
        assert_eq!(Order::ClipAndLikelihood.scores(&candidates), [1.0, -1.0]);
        assert_eq!(Order::ClipAndLikelihood.scores(&candidates[..1]), [0.0]);
    }

    #[test]
    fn an_order_says_what_it_needs() {
        assert_eq!(Order::of(RankBy::Unspecified, true, true), Ok(Some(Order::Clip)));
        assert_eq!(Order::of(RankBy::Unspecified, false, true), Ok(None));
        assert_eq!(Order::of(RankBy::Likelihood, false, false), Ok(Some(Order::Likelihood)));
        assert_eq!(Order::of(RankBy::Both, true, false), Ok(Some(Order::ClipAndLikelihood)));
        assert_eq!(Order::of(RankBy::Both, true, true), Ok(Some(Order::ClipAndGain)));
        for asked in [RankBy::Clip, RankBy::Both] {
            assert!(Order::of(asked, false, true).is_err());
        }
        assert!(Order::of(RankBy::CaptionGain, true, false).is_err());
    }
}
