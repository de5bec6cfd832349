from fxquant.graph import Report, Site


def site(rewrite: str, node: str, *, applied: bool, layer: str = "", reason: str = "") -> Site:
    return Site(rewrite=rewrite, node=node, layer=layer, op="add", applied=applied, reason=reason)


def test_sites_are_listed_by_pass_and_outcome() -> None:
    done, left = site("fold", "a", applied=True), site("fold", "b", applied=False)
    report = Report([done, site("other", "a", applied=True), left])
    assert report.applied("fold") == [done]
    assert report.declined("fold") == [left]
    assert report.applied("unknown") == []


def test_site_reads_as_a_sentence_with_its_layer() -> None:
    text = str(site("fold", "add_1", applied=False, layer="layer1.0", reason="it is read twice"))
    assert text == "fold: declined add at 'layer1.0': it is read twice"


def test_site_of_the_models_own_forward_shows_its_node() -> None:
    assert str(site("fold", "add_1", applied=True, reason="folded")) == "fold: applied add at 'add_1': folded"


def test_op_that_a_placing_pass_declined_stays_float_for_its_reason() -> None:
    declined = site("assign-specs", "a", applied=False)
    assert Report([declined]).floats == {"a": declined}


def test_op_that_a_later_pass_declined_stays_float_for_the_last_reason() -> None:
    declined = site("legalize-outputs", "a", applied=False, reason="P07")
    assert Report([site("assign-specs", "a", applied=True), declined]).floats == {"a": declined}


def test_op_that_was_declined_and_then_applied_is_not_float() -> None:
    declined, applied = site("assign-specs", "a", applied=False), site("legalize-outputs", "a", applied=True)
    assert Report([declined, applied]).floats == {}


def test_decline_of_a_pass_that_places_nothing_does_not_count_as_float() -> None:
    assert Report([site("fold-batch-norm", "a", applied=False)]).floats == {}
