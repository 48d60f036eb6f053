"""The pocket world: procedural action videos of which everything is known. Knows nothing of Ray or of any download.

vocabulary   what exists: entities and actions, as names and numbers
painter      shapes in world units onto a canvas that remembers which entity each pixel shows
figure       people; `things` objects; `scenes` backgrounds
acts_*       how each action moves
world        draws clips, frames and close-ups with their masks and their truth
captions     what can truly be said of a clip
archive      real mp4 files with a manifest
"""
