"""What words mean in financial English, where a lexicon of everyday English misleads.

Valences are on VADER's scale, from -4 (most negative) to 4. They are judgements about what a word does
to the expectations of a holder of the company's shares, not fits to returns.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EMOJI", "NEGATORS", "NEUTRAL", "PATTERNS", "PHRASES", "WORDS", "Pattern"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(phrase.split()) for phrase in text.split(","))


NEUTRAL: Final = _words(
    """
    share shares shared gross liability liabilities interest interests interested security securities trust
    trusts trusted value values valued energy asset assets profit profits profitable credit credits united best
    alert charges crude natural cancer defense weapon like likes well pretty matter matters play plays party top
    tops original save demand pay low dear grand fair free fun solution solutions super support supports worth
    rich care heart protected novel please justice outstanding exploration treasure treasury intelligence smart
    mature appreciation bonus committed commit ensure help helps welcome thank thanks vested merit merits limited
    increase certain straight chance join reach agree agreed agrees agreement anti no god discounted defensive
    cut cuts cutting miss misses missed advanced challenge competitive safe safety dispute stop stops active
    """
)
"""Words that name things in finance ("shares", "gross margin", "crude oil") and say nothing of good or bad.
Those that do in a context return in `PHRASES` or `PATTERNS`."""

_WORDS_BY_VALENCE: Final[dict[float, str]] = {
    3.0: "skyrockets skyrocketed skyrocketing blockbuster",
    2.5: "soars soar soared soaring surges surge surged surging outperforms outperform outperformed outperforming",
    2.0: """
        jumps jump jumped jumping rallies rally rallied rallying rockets rocketed spikes spiked bullish upbeat
        upgrades upgrade upgraded oversubscribed rebounds rebound rebounded rebounding windfall accretive undervalued
        breakthrough
    """,
    1.5: """
        climbs climb climbed climbing recovers recovered recovery accelerates accelerated accelerating expands
        expanded expansion strengthens strengthened strengthening outpaces outpaced overweight buyback buybacks
        uptick upswing upturn turnaround synergies approve clears cleared resilient upside breakout mooning bull
        bulls suitor suitors
    """,
    1.2: """
        rises rise rose rising gains higher advances advance grows grow grew growing raises raised lifts lifted
        buoyed buoys tailwind tailwinds momentum growth partnership reinstates reinstated hires hiring
    """,
    0.8: "dividend launches launched unveils unveiled partners acquires settles settled resumes",
    -0.8: "dips dip dipped muted cautious underweight sluggish restructuring dilution",
    -1.2: """
        falls fall fell falling lower slips slip slipped slipping declines decline declined declining softens
        softened lags lagged lagging weighs pressured retreats retreated headwind headwinds shortage shortages
        delays postpones postponed probe probes probed investigation investigations inquiry subpoena subpoenas
        subpoenaed dilutive writedown writedowns outflows tariffs tariff loses resigns resign hit hits concern
        concerns concerned bear bears sues sued recalls recall recalled deteriorates deteriorated dent dents dented
        erode erodes eroded crimp crimps crimped hamper hampers hampered walkout walkouts
    """,
    -1.6: """
        drops drop dropped dropping slides slide slid sliding weakens weakened weakening bearish selloff shrinks
        shrank shrinking shrunk contraction layoffs layoff underperforms underperform underperformed overvalued
        overhang impairment impairments downturn downtick fined fines fine penalties halts halted slowdown slows
        slowed slowing disappoints glut downbeat terminates terminated quits ousts ousted outage outages breach
        breached hacked hack hackers cyberattack ransomware stole wrongdoing curtails bubble deficit deficits
    """,
    -2.0: """
        downgrades downgrade downgraded sinks sink sank sinking tumbles tumble tumbled tumbling slumps slump slumped
        slumping slashes slashed delisted delisting delist dumping bagholder bagholders manipulated manipulation
        embezzlement restates restated restatement bribery corruption laundering misconduct indicted indictment rout
        tanks tank tanking tanked rekt
    """,
    -2.5: """
        plunges plunge plunged plunging plummets plummet plummeted plummeting crashes crash crashed crashing
        nosedives nosedive nosedived collapses collapse collapsed collapsing craters cratered default defaults
        defaulted insolvency insolvent liquidation bankrupt bankruptcy ponzi meltdown fraud fraudulent
    """,
}
WORDS: Final[dict[str, float]] = {word: valence for valence, text in _WORDS_BY_VALENCE.items() for word in text.split()}
"""Word to valence."""

_PHRASES_BY_VALENCE: Final[dict[float, str]] = {
    3.0: """
        to the moon, record profit, record profits, record earnings, fda approval, fda approves, wins approval,
        gets approval, wins fda approval, blowout quarter
    """,
    2.5: """
        better than expected, stronger than expected, ahead of
        estimates, ahead of expectations, all time high, all time highs, record high, record highs, returns to
        profit, swings to profit, swing to profit, swung to profit, profit doubles, profit triples, double upgrade,
        returns to profitability, return to profitability, returned to profit, back to profit, cleared of wrongdoing,
        price target raised, special dividend, meets primary endpoint, met primary endpoint, emerges from bankruptcy,
        short squeeze
    """,
    2.0: """
        share buyback, share buybacks, stock buyback, share repurchase, repurchase program, repurchase plan, 52 week
        high, multi year high, year high, record revenue, record sales, record quarter, record orders, record
        deliveries, dividend increase, dividend hike, takeover bid, takeover offer, buyout offer, agrees to be acquired,
        to be acquired, positive data, positive results, strong demand, strong results, strong quarter, upgraded to
        buy, upgraded to overweight, upgraded to outperform, buy rating, strong buy, gains market share, margin
        expansion, diamond hands, buying the dip, buy the dip, beat and raise, profit beats, profit beat, earnings
        beat, earnings beats, revenue beats, sales beat, results beat, smaller than feared, better than feared, less
        than feared, narrower than expected, conviction buy, conviction buy list, buy list, at buy, at outperform, at
        overweight, bidding war
    """,
    1.5: """
        wins lawsuit, wins case, dismisses lawsuit, lawsuit dismissed, case dismissed, drops probe, ends probe, closes
        probe, drops lawsuit, settles lawsuit, settles dispute, resolves dispute, pays down debt, cost savings, lower
        costs, lower debt, insider buying, activist stake, takes stake in, go long, going long, on track, outlook
        positive, positive outlook, up #, in the black, robust demand, takeover interest, draw interest, draws interest,
        rival bid, rival bidder, green light, chosen by, selected by, picked by, high grade, added to s&p, added to the
        s&p, joins s&p, join s&p
    """,
    0.0: """
        best buy, interest rate, interest rates, credit suisse, dollar general, live nation, under armour, health
        care, loss prevention, risk management, risk officer, crude oil, natural gas, gross margin, united states,
        war chest, fair value, fair isaac, profit and loss, poison pill, debt offering, debt securities, strike price,
        big short, rise of, fall of, this fall, in fall, hits shelves, black friday, defined benefit, winners and
        losers, capital gains, advance auto parts, fine art, fine dining, merger of equals, interest expense,
        bull case, bear case, quiet period, hedge fund, ex dividend, dividend date, supreme court, quarterly dividend,
        resumes coverage, initiates coverage, hires adviser, hires advisers, hires bankers
    """,
    -1.5: """
        misses deadline, weak demand, soft demand, soft sales, slowing growth, higher costs, rising costs, cost
        overruns, price cuts, price war, loses market share, losing market share, margin pressure, margin squeeze,
        margin compression, supply chain disruption, down #, lost #, off #, shed #, sheds #, under pressure, under
        investigation, under review, faces scrutiny, antitrust lawsuit, antitrust probe, antitrust suit, class action,
        insider selling, sells stake, cuts stake, trims stake, steps down, stepping down, abrupt departure, goes on
        strike, go on strike, outlook negative, negative outlook, in the red, dead cat bounce, secondary offering,
        data breach, hiring freeze, plant closure, closes stores, store closures, paper hands, bag
        holders, bag holder, pump and dump, going short, go short, warns of, warns on, warned of, warned on, warns
        that, halts production, suspends production, halts sales, halts trading, trading halted, debt burden, debt
        load, weighs on, pushes back, pushed back, puts off, put off, walks away, walk away, walked away, calls off,
        called off, walks out, walk out, walked out, new stock, share sale, stock sale, rights issue, share offering,
        stock offering, restructuring adviser, restructuring advisers, at underweight
    """,
    -2.0: """
        52 week low, multi year low, year low, all time low, record low, record lows, record loss, worse than expected,
        weaker than expected, lower than expected, shy of
        estimates, short of estimates, short of expectations, cut to sell, downgraded to sell, downgraded to
        underperform, sell rating, swings to loss, swing to loss, swung to loss, surprise loss, wider loss, profit
        falls, profit slumps, profit drops, profit plunges, profit tumbles, dividend cut, guidance cut, job cuts, mass
        layoffs, to junk, junk status, complete response letter, clinical hold, fails trial, failed trial, trial
        failure, misses primary endpoint, missed primary endpoint, safety concerns, material weakness, accounting
        irregularities, covenant breach, margin call, ceo ousted, short seller report, cash burn, trade war, debt
        crisis, bank run, bear market, death cross, profit misses, earnings miss, earnings misses, revenue misses,
        sales miss, results miss, short of cash, out of cash, cash crunch, at sell, at underperform
    """,
    -2.7: """
        profit warning, profit warnings, warns on profit, going concern, going concern doubt, accounting fraud,
        securities fraud, criminal charges, fraud charges, files for bankruptcy, file for bankruptcy, filed for
        bankruptcy, filing for bankruptcy, bankruptcy protection, bankruptcy filing, chapter 11, chapter 7, files for
        chapter 11, misses debt payment, misses interest payment, missed interest payment, missed debt payment,
        defaults on, defaulted on, ponzi scheme, wiped out, delisting notice, faces delisting
    """,
}
PHRASES: Final[dict[tuple[str, ...], float]] = {
    phrase: valence for valence, text in _PHRASES_BY_VALENCE.items() for phrase in _phrases(text)
}
"""Words in a row to the valence of the whole. `#` is any number, amount or percentage."""

NEGATORS: Final = frozenset(
    _phrases(
        """
        fails to, fail to, failed to, failing to, unable to, unlikely to, no longer, avoids, avoided, avoid, averts,
        averted, avert, escapes, escaped, dodges, dodged, rules out, ruled out, staves off, staved off, far from
        """
    )
)
"""Words in a row that turn what follows into its opposite."""


class Pattern:
    """A verb and, within a few words of the same clause, its object.

    Parameters
    ----------
    name
        Distinct name.
    valence
        Valence of the whole.
    verbs, objects
        Words in every form that counts, separated by spaces.

    Examples
    --------
    >>> sorted(Pattern("cut_jobs", -1.6, "cuts axes", "jobs").verbs)
    ['axes', 'cuts']
    """

    __slots__ = ("name", "objects", "valence", "verbs")

    def __init__(self, name: str, valence: float, verbs: str, objects: str) -> None:
        self.name = name
        self.valence = valence
        self.verbs = _words(verbs)
        self.objects = _words(objects)


_BENCHMARKS: Final = "estimate estimates expectation expectations forecast forecasts consensus views projections street"
_PLANS: Final = "guidance outlook forecast forecasts dividend dividends payout target targets view estimate estimates"
_BURDENS: Final = "cost costs debt debts loss losses expense expenses leverage defaults delinquencies unemployment"
_RESULTS: Final = "profit profits earnings sales revenue revenues income"
_LAW: Final = "lawsuit lawsuits suit probe charges fine fines penalty penalties investigation"
_RISE: Final = """
    rise rises rose rising jump jumps jumped surge surges surged climb climbs climbed grow grows grew soar soars
    widen widens widened mount mounts mounting balloon balloons ballooned double doubles doubled triple triples tripled
"""
_FALL: Final = """
    fall falls fell falling drop drops dropped decline declines declined shrink shrinks shrank narrow narrows
    narrowed ease eases eased
"""
_BEAT: Final = """
    beat beats beating top tops topped topping exceed exceeds exceeded surpass surpasses surpassed smash smashes
    smashed crush crushes crushed trounce trounces trounced outstrip outstrips
"""
_MISS: Final = "miss misses missed missing lag lags lagged trail trails trailed undershoot undershoots"
_RAISE: Final = """
    raise raises raised raising lift lifts lifted boost boosts boosted hike hikes hiked increase increases increased
    up ups upped doubles doubled restores restored reinstates reinstated upgrades upgraded
"""
_CUT: Final = "cut cuts cutting lower lowers lowered slash slashes slashed trim trims trimmed reduce reduces reduced"
_DROP: Final = """
    suspend suspends suspended withdraw withdraws withdrew pull pulls pulled scrap scraps scrapped halve halves
    halved eliminate eliminates eliminated downgrade downgrades downgraded axe axes axed
"""

PATTERNS: Final[tuple[Pattern, ...]] = (
    Pattern("beat_benchmark", 2.8, _BEAT, f"{_BENCHMARKS} guidance"),
    Pattern("miss_benchmark", -2.8, _MISS, f"{_BENCHMARKS} guidance"),
    Pattern("above_benchmark", 2.4, "above", _BENCHMARKS),
    Pattern("below_benchmark", -2.4, "below", _BENCHMARKS),
    Pattern(
        "results_multiply",
        1.8,
        _RESULTS,
        "double doubles doubled triple triples tripled quadruple quadruples quadrupled",
    ),
    Pattern("results_halve", -2.2, _RESULTS, "halve halves halved"),
    Pattern("return_capital", 1.5, "return returns hand hands", "shareholders investors"),
    Pattern("take_stake", 1.2, "take takes took build builds built", "stake"),
    Pattern("raise_plan", 2.4, _RAISE, f"{_PLANS} buyback repurchase"),
    Pattern("cut_plan", -2.6, f"{_CUT} {_DROP}", f"{_PLANS} buyback"),
    Pattern(
        "cut_jobs", -1.6, f"{_CUT} axe axes axed shed sheds eliminate eliminates", "job jobs staff workforce workers"
    ),
    Pattern("cut_burden", 1.4, f"{_CUT} narrow narrows narrowed", _BURDENS),
    Pattern("burden_up", -1.8, _BURDENS, _RISE),
    Pattern("burden_down", 1.4, _BURDENS, _FALL),
    Pattern("raise_doubt", -1.8, f"{_RAISE} cast casts spark sparks sparked", "doubt doubts concern concerns fears"),
    Pattern(
        "win_business",
        1.8,
        "win wins won secures secured secure lands landed bags clinch clinches",
        "contract contracts deal order orders approval clearance",
    ),
    Pattern(
        "lose_business",
        -1.8,
        "lose loses lost losing",
        "contract contracts deal order orders customer customers lawsuit suit case appeal license",
    ),
    Pattern(
        "drop_deal",
        -1.6,
        f"{_DROP} abandon abandons abandoned cancel cancels canceled cancelled terminate terminates terminated",
        "deal merger takeover acquisition bid offer buyout",
    ),
    Pattern(
        "dismiss_law", 1.8, "dismiss dismisses dismissed throw throws threw toss tosses tossed", f"{_LAW} case claims"
    ),
    Pattern("face_law", -1.6, "face faces facing faced sue sues sued", f"{_LAW} scrutiny"),
    Pattern(
        "reject_approval",
        -2.2,
        "reject rejects rejected deny denies denied block blocks blocked",
        "approval application bid drug merger deal appeal acquisition takeover",
    ),
)
"""Verb and object pairs; the first pattern that fits stands."""

EMOJI: Final[dict[str, str]] = {
    "\N{ROCKET}": "soaring",
    "\N{CHART WITH UPWARDS TREND}": "rising",
    "\N{CHART WITH DOWNWARDS TREND}": "falling",
    "\N{BEAR FACE}": "bearish",
    "\N{OX}": "bullish",
}
"""What an emoji says among traders."""
