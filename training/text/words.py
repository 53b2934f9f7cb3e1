"""Word lists. Concept words recur in every generator, so that the model forms features for them."""

from random import Random


def _words(text: str) -> tuple[str, ...]:
    """Split on commas or, where there is none, on spaces."""
    return tuple(w.strip() for w in (text.split(",") if "," in text else text.split()))


NAMES = _words("""Tom Anna Ben Lucy Max Emma Sam Mia Leo Clara Jack Ella Harry Sara Oscar Nina Peter Rosa Paul Julia
    Adam Maria David Lily Simon Eva Mark Alice Daniel Ruth Henry Grace George Helen Martin Laura Oliver Sophie Noah Zoe
    Felix Ivy Hugo Jane Luke Kate Dan Amy Robert Olga""")
BOYS = _words(
    "Tom Ben Max Sam Leo Jack Harry Oscar Peter Paul Adam David Simon Mark Daniel Henry George Martin Oliver "
    "Noah Felix Hugo Luke Dan Robert"
)

# animal | plural | young | eats | lives in | sound
ANIMAL_TABLE = tuple(
    tuple(row.split("|"))
    for row in """dog|dogs|puppy|meat|kennel|barks
cat|cats|kitten|fish|house|meows
horse|horses|foal|hay|stable|neighs
cow|cows|calf|grass|field|moos
sheep|sheep|lamb|grass|meadow|bleats
goat|goats|kid|leaves|hills|bleats
pig|pigs|piglet|roots|barn|grunts
lion|lions|cub|meat|savanna|roars
tiger|tigers|cub|meat|jungle|roars
bear|bears|cub|honey|cave|growls
wolf|wolves|pup|meat|forest|howls
fox|foxes|kit|mice|den|yelps
rabbit|rabbits|bunny|carrots|burrow|squeaks
mouse|mice|pup|cheese|hole|squeaks
frog|frogs|tadpole|insects|pond|croaks
fish|fish|fry|worms|river|bubbles
bird|birds|chick|seeds|nest|sings
duck|ducks|duckling|plants|lake|quacks
goose|geese|gosling|grass|farmyard|honks
hen|hens|chick|grain|coop|clucks
owl|owls|owlet|mice|tree|hoots
eagle|eagles|eaglet|fish|mountains|screams
elephant|elephants|calf|bark|plains|trumpets
monkey|monkeys|infant|bananas|rainforest|chatters
panda|pandas|cub|bamboo|bamboo forest|squeaks
koala|koalas|joey|leaves|trees|grunts
kangaroo|kangaroos|joey|grass|outback|chirps
giraffe|giraffes|calf|leaves|savanna|hums
zebra|zebras|foal|grass|plains|barks
camel|camels|calf|thorns|desert|grunts
deer|deer|fawn|leaves|woods|bleats
squirrel|squirrels|kit|nuts|oak tree|chirps
hedgehog|hedgehogs|hoglet|insects|hedge|snorts
penguin|penguins|chick|fish|ice|squawks
seal|seals|pup|fish|sea|barks
whale|whales|calf|krill|ocean|sings
dolphin|dolphins|calf|fish|ocean|whistles
shark|sharks|pup|fish|sea|hunts
snake|snakes|snakelet|mice|grass|hisses
turtle|turtles|hatchling|plants|sea|swims
bee|bees|larva|nectar|hive|buzzes
spider|spiders|spiderling|flies|web|waits
parrot|parrots|chick|seeds|rainforest|talks
swan|swans|cygnet|plants|lake|hisses
donkey|donkeys|foal|hay|stable|brays
hippo|hippos|calf|grass|river|grunts""".split("\n")
)
ANIMALS = tuple(row[0] for row in ANIMAL_TABLE)

LISTS: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "fruit": _words("""apple banana pear peach plum cherry grape lemon lime orange mango melon kiwi fig date apricot
        strawberry raspberry blueberry blackberry pineapple coconut papaya guava pomegranate grapefruit tangerine
        nectarine cranberry quince lychee mulberry watermelon olive avocado currant gooseberry persimmon mandarin berry"""),
    "colour": _words("""red blue green yellow orange purple pink brown black white grey gold silver violet indigo crimson
        scarlet turquoise beige tan cream ivory maroon navy teal lime olive peach coral lilac lavender amber bronze copper
        rose ruby emerald mint sand plum"""),
    "city": _words("""Paris, Rome, London, Madrid, Berlin, Lisbon, Vienna, Prague, Dublin, Athens, Oslo, Cairo, Tokyo,
        Beijing, Delhi, Moscow, Warsaw, Budapest, Amsterdam, Brussels, Copenhagen, Stockholm, Helsinki, Lima, Havana,
        Nairobi, Ottawa, Canberra, Seoul, Bangkok, Hanoi, Milan, Venice, Florence, Naples, Barcelona, Seville, Lyon,
        Munich, Hamburg, Boston, Chicago, Sydney, Geneva, Zurich, Istanbul"""),
    "food": _words(
        """bread cheese rice soup pasta pizza salad cake pie honey butter chocolate soup stew curry porridge toast
        ham beef chicken fish bacon sausage omelette noodles beans lentils potatoes chips popcorn pancakes waffles biscuits
        pudding jam yoghurt ice-cream crackers dumplings meatballs risotto lasagne sushi tacos muffins eggs""".replace(
            "chocolate soup stew", "chocolate stew"
        )
    ),
    "instrument": _words("""piano guitar violin flute drum trumpet cello harp clarinet trombone saxophone oboe bassoon tuba
        viola banjo mandolin ukulele accordion organ recorder xylophone harmonica tambourine horn lute bugle cornet piccolo
        triangle bell gong fiddle keyboard bagpipes zither sitar whistle lyre cymbal"""),
    "sport": _words("""football tennis swimming running rugby cricket basketball hockey golf skiing cycling rowing sailing
        boxing judo karate archery fencing volleyball badminton baseball skating surfing climbing diving wrestling handball
        gymnastics bowling squash polo darts dancing riding hiking canoeing softball triathlon snowboarding netball"""),
    "job": _words("""doctor teacher farmer baker nurse king queen pilot painter singer sailor soldier writer driver cook builder
        dentist lawyer actor dancer fisherman gardener tailor carpenter plumber judge scientist engineer librarian waiter butcher
        postman knight shepherd miller potter poet hunter clown mayor"""),
    "flower": _words("""rose tulip daisy lily daffodil sunflower poppy violet orchid iris pansy lotus jasmine lavender marigold
        carnation peony primrose bluebell snowdrop crocus geranium hyacinth dahlia lilac buttercup foxglove begonia
        chrysanthemum magnolia petunia camellia azalea hydrangea cornflower zinnia aster freesia heather thistle"""),
    "vehicle": _words("""car bus train boat ship plane bicycle lorry van taxi tram truck tractor scooter motorbike ambulance
        helicopter rocket balloon canoe ferry yacht raft sledge wagon carriage cart jeep submarine tank caravan coach barge
        glider kayak tricycle skateboard bulldozer minibus spaceship"""),
    "clothing": _words("""coat hat scarf shirt dress skirt jacket jumper sweater vest belt tie cap hood cloak cape robe suit
        blouse cardigan gown apron raincoat sock glove boot shoe sandal slipper mitten bonnet helmet uniform waistcoat
        tunic shawl ribbon mask crown veil"""),
    "weather": _words("""rain snow wind sunshine fog mist hail frost thunder lightning ice sleet drizzle heat storms clouds
        breeze dew blizzards showers"""),
    "toy": _words("""ball doll kite puzzle robot drum whistle train teddy marble top rattle spinner blocks balloon hoop puppet
        yo-yo sword castle dinosaur rope telescope magnet bubble trumpet car boat rocket swing"""),
    "drink": _words(
        """water milk tea coffee juice lemonade cocoa cider soda wine beer smoothie milkshake squash"""
    ),
    "tree": _words("""oak pine birch maple willow elm ash beech palm cedar fir spruce poplar yew holly chestnut hazel walnut
        cypress larch sycamore redwood eucalyptus acacia alder hawthorn rowan linden elder bamboo"""),
    "subject": _words("""music history maths science art geography reading drama biology chemistry physics poetry spelling
        drawing grammar writing cooking English French Spanish Latin astronomy"""),
    "vegetable": _words("""carrot potato onion cabbage pea bean tomato cucumber lettuce spinach pumpkin leek turnip radish
        beetroot cauliflower broccoli celery pepper garlic mushroom parsnip courgette aubergine asparagus artichoke kale
        marrow sweetcorn swede"""),
    "place": _words("""beach forest river mountain park garden lake island castle market museum library school farm village
        city desert valley meadow harbour bridge tower church palace cave hill pond wood street station bakery theatre zoo
        kitchen attic cellar hospital airport stadium field"""),
    "treasure": _words("""diamond ruby emerald pearl crown ring coin necklace sapphire opal goblet sword amber crystal bracelet
        chest mirror lamp jewel scroll key map statue vase clock book brooch medal button shell"""),
    "tool": _words("""hammer saw spade rake axe drill brush knife ladder rope bucket needle pencil ruler broom shovel hoe
        spanner screwdriver chisel scissors pliers torch mop sponge trowel wheelbarrow net anvil file"""),
}

FAVOURITES = 16
CATEGORIES = {name: words[:FAVOURITES] for name, words in LISTS.items()}
"""The words of each list that most documents speak of: few enough for each to get a feature of its own."""

ADJECTIVES = _words("""happy sad big small old young kind brave clever shy quiet noisy warm cold bright dark soft hard sweet sour
    fresh strong weak fast slow gentle proud tired hungry thirsty angry calm curious careful lazy busy funny strange famous
    lovely pretty beautiful ugly tiny huge tall short long round flat heavy light clean dirty rich poor wise foolish polite
    rude honest silly lucky lonely golden wooden silent wild tame rare common simple useful""")
FEELINGS = _words(
    "happy sad proud tired calm excited surprised worried cheerful nervous hopeful grateful lonely pleased "
    "curious"
)
TRAITS = _words(
    "gentle clever strong quick loyal quiet playful brave beautiful patient shy curious funny wild calm "
    "friendly proud"
)
RELATIVES = _words(
    "mother father sister brother grandmother grandfather uncle aunt cousin friend neighbour teacher"
)
TIMES = _words("""in the morning, in the afternoon, in the evening, at night, at noon, on Monday, on Tuesday, on Wednesday,
    on Thursday, on Friday, on Saturday, on Sunday, in spring, in summer, in autumn, in winter, last week, yesterday,
    after school, before dinner, after breakfast, at sunrise""")
VERBS_PAST = _words("""walked ran jumped laughed smiled cried sang danced played worked rested waited listened looked talked
    whispered shouted climbed cooked painted drew wrote counted dreamed slept swam cleaned hurried travelled wandered""")
MOTIONS = _words("walked ran hurried drove cycled wandered travelled marched raced strolled crept sailed")
SIGHTS = _words("""a rainbow, a waterfall, a falling star, the full moon, a bright light, a small fire, a golden gate, a broken
    cart, a tall tower, an empty road, an old bridge, a quiet garden, a deep well, a hidden path, a stone wall, a dark cloud,
    the rising sun, a flag in the wind, a long shadow, a row of lamps, a wooden sign, a narrow stream, a field of wheat,
    a heap of leaves, a pile of stones, a cloud of dust, a string of beads, a bag of feathers""")


def pick_people(rng: Random, count: int) -> list[str]:
    """Different names, in random order."""
    return rng.sample(NAMES, count)
