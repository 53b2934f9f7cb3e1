"""Riddles: clues that only one word fits, so that the model needs a feature for that word, not only for its
kind.
"""

from random import Random

from training.text.item import article, capital
from training.text.words import NAMES

# word | clues, each of which goes on from "it"
TABLE = tuple(
    (row.split("|")[0], tuple(row.split("|")[1:]))
    for row in """dog|wags its tail|guards the house|chases a stick|barks at strangers|pulls on its lead|fetches the ball|buries a bone in the garden|is the best friend of man|sniffs at every lamp post|was once a puppy|comes when you whistle|sleeps in its kennel
cat|purrs by the fire|has whiskers and climbs on the sofa|hunts mice at night|licks its paws|says meow|chases the laser light|always lands on its feet|has nine lives|arches its back and hisses|drinks milk from a saucer|was once a kitten|plays with a ball of wool
horse|wears a saddle|gallops over the field|pulls the carriage|carries the knight|neighs in the stable|wins the race with its jockey|has hooves and a mane|wears iron shoes|pulls the plough|was once a foal|trots and gallops|is ridden by the cowboy
fish|breathes under water|has fins and scales|swims in a bowl|is caught with a hook|has no legs and swims
bird|builds a nest of twigs|has feathers and wings|sings at dawn|lays eggs in a nest|flies south in winter
bear|sleeps in its cave all winter|loves honey|catches salmon with its paw|growls and has thick fur|stands up on two legs and growls|is big, brown and furry|lives in a cave in the woods|scratches its back on a tree|breaks into the beehive|climbs out of its den in spring|gave its name to the teddy
lion|is the king of the animals|has a great mane|roars in the savanna|leads its pride|scared the whole zoo with a roar|has a mane and a loud roar|sleeps in the savanna while the lioness hunts|is tamed in the circus with a whip|is the king of beasts|is on the flag of many kings
cow|gives us milk|chews grass all day|moos in the field|wears a bell in the Alps|is milked by the farmer
sheep|gives us wool|follows the shepherd|is counted by people who cannot sleep|has a woolly coat
pig|rolls in the mud|has a curly tail|grunts in the barn|has a flat snout
mouse|nibbles cheese|hides from the cat|lives in a little hole|squeaks behind the wall
rabbit|has long ears and hops|eats carrots|digs a burrow|comes out of the magician's hat
duck|quacks on the pond|has webbed feet|swims with its ducklings|waddles to the water
frog|croaks by the pond|was once a tadpole|catches flies with its tongue|jumps from leaf to leaf
elephant|has a long trunk|is the biggest animal on land|has tusks of ivory|never forgets
monkey|swings from tree to tree|peels bananas|climbs and chatters|looks a bit like us
tiger|has orange fur with black stripes|is a big striped cat|hunts alone in the jungle
wolf|howls at the moon|hunts in a pack|frightened the three little pigs|is the wild cousin of the dog
fox|has a bushy red tail|steals hens at night|is sly and lives in a den
owl|hoots at night|can turn its head around|is said to be wise|sees in the dark
bee|makes honey|lives in a hive|buzzes from flower to flower|can sting
snake|has no legs and hisses|sheds its skin|slides through the grass|has a forked tongue
apple|keeps the doctor away|fell on Newton's head|grows in an orchard and is red or green|is baked in a pie with cinnamon|was given to Snow White|is pressed into cider|has a core with pips|is given to the teacher|was taken from the tree by Eve
banana|is long, yellow and bent|is peeled before you eat it|is a monkey's favourite snack|is slipped on when its skin lies in the street|grows in bunches and is yellow|turns brown when it is too ripe|is cut in half for a split
lemon|is yellow and very sour|is squeezed into tea|is made into lemonade
cherry|is small and red with a stone|sits on top of the cake|hangs in pairs on the tree
grape|is made into wine|grows in bunches|is dried into raisins
bread|is baked from flour|comes out of the baker's oven|is cut into slices|is eaten with butter|is toasted in the morning|is sold by the baker as a loaf|rises in the oven|is put into the basket with the wine|grows hard and feeds the ducks
cheese|is made from milk|has holes in it|is what mice want|lies in the mouse trap|is put on a pizza|may be blue and smell strong|is grated over the pasta|comes in round yellow wheels
cake|has candles on a birthday|is sweet and has icing|is cut at a wedding
honey|is made by bees|is sweet and sticky|is what bears want
milk|comes from cows|is white and fills the cup|is drunk by babies
water|falls from the tap|is what fish swim in|has no taste and no colour|puts out the fire
rain|falls from the clouds|makes the streets wet|is why we carry an umbrella|fills the puddles|drums on the roof|is measured in a gauge|makes the river rise|comes after the thunder|waters the fields
snow|is white and falls in winter|is made into a man with a carrot nose|covers the hills in winter|melts in spring|is shovelled from the path|makes skiing possible|falls in white flakes|is thrown as balls by children|lies on the roof at Christmas
wind|blows the leaves away|makes the kite fly|fills the sails|cannot be seen but bends the trees
sun|rises in the east|shines by day|is the star that warms us|sets in the west
moon|shines at night|circles the earth|is full once a month|was reached by astronauts
river|flows to the sea|runs under the bridge|has two banks and a bed|starts as a spring
mountain|has a snowy peak|is climbed with ropes|is higher than a hill
sea|is salty and deep|has waves and tides|is where ships sail
forest|is full of trees|is where mushrooms grow under the trees|is green, dark and full of trees
king|wears a crown|sits on the throne|rules the land with the queen|lives in the palace|is checked in chess|is the husband of the queen|has a castle and a crown|is followed by his son, the prince
queen|is the wife of the king|rules the hive of bees|wears a crown and a gown
doctor|helps sick people|works at the hospital|gives you medicine|wears a white coat and listens to your heart|looks at your tongue|comes when you have a fever|writes a prescription
teacher|works at a school|writes on the blackboard|marks your homework
music|is heard at a concert|is made with notes|is what an orchestra plays|makes people dance|is written in notes
piano|has black and white keys|has eighty-eight keys|needs a stool and two hands|has a lid, pedals and strings|is tuned by a man with a fork|is played with ten fingers|is too heavy for the stairs
guitar|has six strings|is strummed by the fire|is played with a pick|is plugged into an amplifier|has frets and a neck|is carried by the rock singer|hangs from a strap
drum|is hit with sticks|beats for the soldiers|goes boom boom
red|is the colour of blood|means stop at the traffic light|is the colour of a fire engine|is the colour of roses|is the colour of a ripe tomato|is the colour that makes the bull run|is the colour of a ladybird|is the colour of Santa's coat
blue|is the colour of the sky|is the colour of the sea|is the colour of a clear day|is the colour of jeans|is the colour of a sapphire|is the colour of ink|is the colour of the whale
green|is the colour of grass|means go at the traffic light|is the colour of leaves
yellow|is the colour of the sun|is the colour of a lemon|is the colour of a banana
white|is the colour of snow|is the colour of milk|is the colour of a bride's dress
black|is the colour of coal|is the colour of night|is the colour of a raven
Paris|has the Eiffel Tower|is the capital city on the Seine|is where the Louvre stands|is where the French president lives|is the capital of fashion|is the city of love and light|has the cathedral of Notre-Dame|is where the Tour de France ends
Rome|has the Colosseum|was not built in a day|is the city of the Pope|lies on the Tiber|is where all roads lead|was founded by Romulus|was ruled by Caesar|has the Trevi Fountain
London|has Big Ben and red buses|lies on the Thames|is where the English king lives
Tokyo|is the great city near Mount Fuji|is where the emperor of Japan lives
Cairo|lies near the pyramids|lies on the Nile
car|has four wheels and an engine|is parked in a garage|is driven on the road
train|runs on rails|stops at the station|has a locomotive
boat|floats and has oars|is tied up in the harbour|is rowed over the lake
book|has pages and a cover|is read in the library|is written by an author
ball|is round and is kicked|is thrown and caught|bounces
clock|has two hands and a face|tells the time|goes tick tock
key|opens the lock|hangs on a ring|turns in the lock
tree|has roots and a trunk|grows from a seed|loses its leaves in autumn
rose|is a flower with thorns|is given to someone you love|pricks your finger|is given on Valentine's Day|is red and smells sweet|grows on a bush with thorns
house|has a roof and walls|is where a family lives|has doors and windows""".split("\n")
)
BARE = frozenset(
    "fish bread cheese honey milk water rain snow wind music red blue green yellow white black Paris Rome "
    "London Tokyo "
    "Cairo".split()
)
ONLY = frozenset("sun moon sea".split())

FORMS = (
    "Which word fits? It {clues}.\nAnswer: {w}",
    "It {clues}. It is {the}.",
    "It {clues}. What is it? It is {the}.",
    "{n} thinks of something that {clues}: {the}.",
    "What {clues}? {The}!",
    "{The}: it {clues}.",
    '"It {clues}," said {n}. "That is {the}," said {m}.',
    "Riddle: it {clues}.\nAnswer: {w}",
    "If it {clues}, it is {the}.",
)


def riddle(rng: Random) -> str:
    word, clues = rng.choice(TABLE)
    chosen = rng.sample(clues, rng.randint(1, min(2, len(clues))))
    the = word if word in BARE else f"the {word}" if word in ONLY or rng.random() < 0.6 else article(word)
    n, m = rng.sample(NAMES, 2)
    return rng.choice(FORMS).format(clues=" and ".join(chosen), w=word, the=the, The=capital(the), n=n, m=m)


def document(rng: Random) -> str:
    return "\n\n".join(riddle(rng) for _ in range(rng.randint(1, 5)))
