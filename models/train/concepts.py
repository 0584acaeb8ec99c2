"""What the model can draw: one row a picture, with the words that mean it.

`file` is the picture's name in the package `emoji-datasource-google`. `names` are synonyms, the usual one first. `colour`
is given where a prompt may name it. `groups` are wider words that several pictures share: asked for one of them, the
model may draw any of its members.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    key: str
    file: str
    names: tuple
    colour: str = ""
    groups: tuple = ()


def _row(key, file, names, colour="", groups=""):
    return Concept(key, file, tuple(names.split("|")), colour, tuple(group for group in groups.split("|") if group))


CONCEPTS = (
    _row("red-apple", "1f34e", "apple", "red", "apple|fruit"),
    _row("green-apple", "1f34f", "apple", "green", "apple|fruit"),
    _row("banana", "1f34c", "banana", "yellow", "fruit"),
    _row("grapes", "1f347", "bunch of grapes|grapes", "purple", "fruit"),
    _row("watermelon", "1f349", "watermelon|slice of watermelon|melon", "", "fruit"),
    _row("pineapple", "1f34d", "pineapple|ananas", "", "fruit"),
    _row("cherries", "1f352", "pair of cherries|cherries|cherry", "red", "fruit"),
    _row("strawberry", "1f353", "strawberry", "red", "fruit"),
    _row("hamburger", "1f354", "hamburger|burger|cheeseburger", "", "food"),
    _row("pizza", "1f355", "pizza|slice of pizza", "", "food"),
    _row("doughnut", "1f369", "doughnut|donut", "", "food"),
    _row("ice-cream", "1f366", "ice cream|ice cream cone", "", "food"),
    _row("cat", "1f431", "cat|kitten|cat face", "yellow", "animal|pet"),
    _row("dog", "1f436", "dog|puppy|dog face", "", "animal|pet"),
    _row("fox", "1f98a", "fox|fox face", "orange", "animal"),
    _row("panda", "1f43c", "panda|panda bear|panda face", "", "animal"),
    _row("frog", "1f438", "frog|toad|frog face", "green", "animal"),
    _row("penguin", "1f427", "penguin", "", "animal|bird"),
    _row("owl", "1f989", "owl", "brown", "animal|bird"),
    _row("fish", "1f420", "tropical fish|fish", "yellow", "animal"),
    _row("turtle", "1f422", "turtle|tortoise", "green", "animal"),
    _row("crab", "1f980", "crab", "red", "animal"),
    _row("butterfly", "1f98b", "butterfly", "orange", "animal|insect"),
    _row("ladybug", "1f41e", "ladybug|ladybird|beetle", "red", "animal|insect"),
    _row("unicorn", "1f984", "unicorn", "", "animal"),
    _row("rose", "1f339", "rose", "red", "flower"),
    _row("sunflower", "1f33b", "sunflower", "yellow", "flower"),
    _row("fir", "1f332", "fir tree|pine tree|christmas tree|fir", "green", "plant"),
    _row("cactus", "1f335", "cactus", "green", "plant"),
    _row("mushroom", "1f344", "mushroom|toadstool", "red", "plant"),
    _row("sun", "2600-fe0f", "sun|sunshine|sunny day", "", "weather"),
    _row("cloud", "2601-fe0f", "cloud|cloudy sky", "", "weather"),
    _row("rainbow", "1f308", "rainbow", "", "weather"),
    _row("snowman", "26c4", "snowman", "white", "weather"),
    _row("moon", "1f319", "crescent moon|moon", "yellow", ""),
    _row("star", "2b50", "star", "yellow", ""),
    _row("fire", "1f525", "fire|flame", "", ""),
    _row("red-car", "1f697", "car|automobile", "red", "car|vehicle"),
    _row("blue-car", "1f699", "car|automobile", "blue", "car|vehicle"),
    _row("taxi", "1f695", "taxi|cab|taxicab", "yellow", "vehicle"),
    _row("airplane", "2708-fe0f", "airplane|plane|aeroplane|jet", "", "vehicle"),
    _row("rocket", "1f680", "rocket|spaceship|space rocket", "", "vehicle"),
    _row("sailboat", "26f5", "sailboat|sailing boat|boat|ship", "", "vehicle"),
    _row("smile", "1f600", "smiling face|smiley|happy face|grinning face", "yellow", "face"),
    _row("crying", "1f62d", "crying face|sad face|weeping face", "yellow", "face"),
    _row("sunglasses", "1f60e", "face with sunglasses|cool face|smiley with sunglasses", "yellow", "face"),
    _row("robot", "1f916", "robot|robot face|android", "", ""),
    _row("ghost", "1f47b", "ghost|spook|phantom", "white", ""),
    _row("skull", "1f480", "skull|death head", "grey", ""),
    _row("pumpkin", "1f383", "pumpkin|halloween pumpkin|jack o lantern", "orange", ""),
    _row("red-heart", "2764-fe0f", "heart", "red", "heart"),
    _row("yellow-heart", "1f49b", "heart", "yellow", "heart"),
    _row("green-heart", "1f49a", "heart", "green", "heart"),
    _row("blue-heart", "1f499", "heart", "blue", "heart"),
    _row("purple-heart", "1f49c", "heart", "purple", "heart"),
    _row("balloon", "1f388", "balloon", "red", ""),
    _row("gift", "1f381", "gift|present|gift box", "", ""),
    _row("red-book", "1f4d5", "book", "red", "book"),
    _row("green-book", "1f4d7", "book", "green", "book"),
    _row("blue-book", "1f4d8", "book", "blue", "book"),
    _row("football", "26bd", "soccer ball|football", "", "ball"),
    _row("basketball", "1f3c0", "basketball", "orange", "ball"),
    _row("crown", "1f451", "crown|royal crown", "golden", ""),
    _row("house", "1f3e0", "house|home|cottage", "", ""),
)

# Pictures that only the autoencoder sees: what the denoiser could not learn besides in the time there was.
EXTRA_FILES = (
    "1f34b", "1f955", "1f951", "1f9c0", "1f382", "1f981", "1f437", "1f430", "1f424", "1f419", "1f433",
    "1f418", "1f337", "1f333", "1f341", "1f30d", "2614", "1f682", "1f621", "1f511", "1f514", "1f4a1", "23f0",
    "1f3b8", "1f48e", "1f3a9",
)

BY_KEY = {concept.key: concept for concept in CONCEPTS}
GROUPS = {group: tuple(c.key for c in CONCEPTS if group in c.groups) for c in CONCEPTS for group in c.groups}
