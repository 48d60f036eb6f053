"""Say which meanings a camera can see, and in which of the four categories. Works on WordNet's classes alone.

Body parts that lie under the skin, feelings, amounts, times and whole activities are no entities: an activity is what a label
says, and an entity is what it is recognised by.
"""

from alt_ray.corpus.wordnet import Sense

_INSIDE_THE_BODY = {
    "internal_organ.n.01",
    "bone.n.01",
    "muscle.n.01",
    "gland.n.01",
    "nerve.n.01",
    "blood_vessel.n.01",
    "vessel.n.01",
    "cell.n.02",
    "tissue.n.01",
    "body_substance.n.01",
    "duct.n.01",
    "membrane.n.02",
    "ligament.n.01",
    "tendon.n.01",
    "neural_structure.n.01",
    "cavity.n.04",
    "system.n.06",
    "process.n.05",
}
_BODY = {"body_part.n.01", "body_covering.n.01", "hair.n.01", "body.n.01", "external_body_part.n.01"}
_SCENE = {
    "geological_formation.n.01",
    "body_of_water.n.01",
    "land.n.04",
    "room.n.01",
    "building.n.01",
    "building_complex.n.01",
    "facility.n.01",
    "way.n.06",
    "tract.n.01",
    "playing_field.n.01",
    "field.n.06",
    "course.n.09",
    "court.n.04",
    "court.n.10",
    "platform.n.01",
    "housing.n.01",
    "mercantile_establishment.n.01",
    "place_of_business.n.01",
    "stadium.n.01",
    "area.n.05",
    "enclosure.n.01",
    "pool.n.01",
    "geographical_area.n.01",
    "vegetation.n.01",
    "bridge.n.01",
    "shelter.n.01",
    "establishment.n.04",
    "plaza.n.02",
    "deck.n.01",
    "surface.n.01",
    "sky.n.01",
    "shore.n.01",
}
_OBJECT_CLASSES = {
    "noun.artifact",
    "noun.food",
    "noun.plant",
    "noun.animal",
    "noun.object",
    "noun.person",
    "noun.substance",
    "noun.phenomenon",
}
_NO_OBJECT = {
    "atmospheric_electricity.n.01",
    "chemical_phenomenon.n.01",
    "physical_phenomenon.n.01",
    "consequence.n.01",
    "gas.n.02",
    "element.n.02",
    "chemical_element.n.01",
    "atom.n.01",
    "molecule.n.01",
    "line.n.21",
    "facility.n.01",
    "way.n.05",
    "creation.n.02",
    "electromagnetic_spectrum.n.01",
    "celestial_body.n.01",
    "unpleasant_person.n.01",
    "bad_person.n.01",
    "deity.n.01",
    "spiritual_being.n.01",
    "religionist.n.01",
    "relative.n.01",
    "inhabitant.n.01",
    "microorganism.n.01",
    "compound.n.02",
    "organic_compound.n.01",
    "drug.n.01",
}
_VISIBLE_ANYWAY = {
    "fire.n.01",
    "fire.n.03",
    "smoke.n.01",
    "flame.n.01",
    "light.n.02",
    "fireworks.n.01",
    "painting.n.01",
}
MOTION_CLASSES = {"verb.motion", "verb.contact", "verb.body", "verb.consumption"}
_MOTION_CLASSES_TOO = {"verb.competition", "verb.creation", "verb.perception", "verb.change", "verb.communication"}
_MOTION_NOUNS = {
    "motion.n.03",
    "motion.n.06",
    "movement.n.03",
    "gesture.n.01",
    "gesture.n.02",
    "stroke.n.01",
    "exercise.n.01",
    "acrobatic_stunt.n.01",
    "tumble.n.02",
    "gait.n.03",
    "facial_expression.n.01",
    "propulsion.n.02",
    "blow.n.01",
    "touch.n.05",
    "posture.n.01",
}
_NO_MOTION_NOUN = {"sport.n.01", "game.n.01", "contest.n.01", "activity.n.01"}
# In every corpus, whatever the labels: actions are done with them. WordNet's sense keys.
COMMON_BODY_PARTS = tuple(
    f"{name}:08:{number}::"
    for number, names in (
        (
            "00",
            "head face eye nose lip tooth tongue ear hair neck shoulder arm elbow wrist hand finger thumb fist chest back "
            "abdomen waist hip thigh knee ankle",
        ),
        ("01", "mouth leg shin foot toe"),
    )
    for name in (f"{name}%1" for name in names.split())
)
# What everything is called that has no better name: seen everywhere, it says nothing.
_TOO_GENERAL = frozenset(
    "limb extremity organ human_body human_head body_part fill cover cut good color design drink edible "
    "food_product beverage general four one two three include prepare protect perceive refer replace connect "
    "attach apply deliver operate occur near except determine characterize entity thing object item unit matter "
    "substance material part piece portion section whole person individual someone somebody people man woman "
    "human being adult artifact device equipment implement instrument instrumentality tool system structure "
    "construction area place location region point position spot space side end top bottom front back edge "
    "surface line form shape group set kind type way activity action act game sport organism animal plant body "
    "container vehicle commodity article creature fabric covering mechanism apparatus move make do get go put "
    "have be take give use change cause become perform play work start begin stop keep hold bring let provide "
    "produce create remove add show travel come event male female child athlete player worker expert food "
    "clothing garment product building".split()
)


def category_of(sense: Sense) -> str | None:
    """Return the category of a meaning, body_part, object, scene or motion, or None if a camera doesn't see it."""
    if sense.pos == "verb":
        return _category_of_verb(sense)
    kinds = sense.kinds
    if sense.lexname == "noun.body":
        return "body_part" if kinds & _BODY and not kinds & _INSIDE_THE_BODY else None
    if kinds & _VISIBLE_ANYWAY:
        return "object"
    if kinds & _MOTION_NOUNS and not kinds & _NO_MOTION_NOUN and sense.lexname == "noun.act":
        return "motion"
    if kinds & _SCENE and sense.lexname in {"noun.artifact", "noun.object", "noun.location", "noun.group", "noun.Tops"}:
        return "scene"
    if sense.lexname in _OBJECT_CLASSES and not kinds & _NO_OBJECT:
        return "object"
    return None


def _category_of_verb(sense: Sense) -> str | None:
    if sense.lexname in MOTION_CLASSES:
        return "motion"
    # A rare sense of a verb of these classes is nearly always figurative.
    return "motion" if sense.lexname in _MOTION_CLASSES_TOO and sense.rank <= 3 else None


def is_too_general(sense: Sense) -> bool:
    """Whether a meaning is seen in nearly every picture or says nothing: "thing", "person", "go"."""
    return sense.lemma.lower() in _TOO_GENERAL
